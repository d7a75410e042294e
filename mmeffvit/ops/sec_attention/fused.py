"""Clustering attention on `scaled_dot_product_attention`; derived in README.md beside it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.precision import autocast_disabled, in_full
from mmeffvit.ops.sec_attention.reference import cluster_sizes
from mmeffvit.ops.sec_attention.traced import sec_attention_traced


class _PermuteRows(torch.autograd.Function):
    """``rows[index]`` for a permutation: its gradient is a gather too, not a scatter."""

    @staticmethod
    def forward(ctx, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(index, inverse)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx, grad: Tensor):
        index, inverse = ctx.saved_tensors
        return _PermuteRows.apply(grad.contiguous(), inverse, index), None, None


def _fast_token_order(k: Tensor) -> Tensor:
    """The reference's order: the norm of the mean key is a positive constant and left out.

    (B, L, h, d) -> (B, h, L).
    """
    with torch.no_grad(), autocast_disabled(k.device.type):
        k = in_full(k)
        centre = k.mean(dim=1)
        products = torch.einsum("blhd,bhd->bhl", k, centre)
        norms = torch.linalg.vector_norm(k, dim=-1).clamp_min(1e-12).transpose(1, 2)
        return (products / norms).argsort(dim=-1, stable=True)


def sec_attention_fused(
    q: Tensor, k: Tensor, v: Tensor, num_clusters: int, *, scale: float | None = None
) -> Tensor:
    """See :func:`mmeffvit.ops.sec_attention`."""
    if torch.compiler.is_compiling():
        # lists of sizes and two calls would bind the graph to one number of tokens
        return sec_attention_traced(q, k, v, num_clusters, scale=scale)
    batch, tokens, heads, head_dim = q.shape
    sizes = cluster_sizes(tokens, num_clusters)
    if len(sizes) == 1:
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)

    # rows of a (B*L*h, d) view, listed cluster by cluster: (B, h, L) -> (B*h*L)
    order = _fast_token_order(k)
    device = q.device
    first_row = torch.arange(batch, device=device)[:, None, None] * (tokens * heads)
    head = torch.arange(heads, device=device)[:, None]
    to_clusters = (first_row + order * heads + head).flatten()
    to_tokens = torch.empty_like(to_clusters)
    to_tokens[to_clusters] = torch.arange(to_clusters.numel(), device=device)

    q, k, v = (
        _PermuteRows.apply(t.reshape(-1, head_dim), to_clusters, to_tokens).view(
            batch * heads, tokens, head_dim
        )
        for t in (q, k, v)
    )
    # clusters of L // K + 1 tokens come first, then those of L // K: at most two calls, no mask
    larger = sizes.count(sizes[0]) if sizes[0] != sizes[-1] else 0
    cut = larger * sizes[0]
    parts = []
    for start, stop, size in ((0, cut, sizes[0]), (cut, tokens, sizes[-1])):
        if stop > start:
            part = (t[:, start:stop].unflatten(1, (-1, size)) for t in (q, k, v))
            parts.append(F.scaled_dot_product_attention(*part, scale=scale).flatten(1, 2))
    out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    out = _PermuteRows.apply(out.reshape(-1, head_dim), to_tokens, to_clusters)
    return out.view(batch, tokens, heads, head_dim)
