"""Attention inside groups on `scaled_dot_product_attention`; see README.md of `sec_attention`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.grouped_attention.reference import cluster_sizes
from mmeffvit.ops.grouped_attention.traced import grouped_attention_traced
from mmeffvit.ops.tables import refuse_jit_trace


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


def grouped_attention_fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    num_groups: int,
    order: Tensor | None = None,
    *,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.grouped_attention.grouped_attention`."""
    if torch.compiler.is_compiling():
        # lists of sizes and two calls would bind the graph to one number of tokens
        return grouped_attention_traced(q, k, v, num_groups, order, scale=scale)
    batch, tokens, heads, head_dim = q.shape
    if num_groups > 1:
        refuse_jit_trace()
    if num_groups <= 1 or tokens == 1:
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)
    sizes = cluster_sizes(tokens, num_groups)
    if order is None:
        q, k, v = (t.transpose(1, 2).flatten(0, 1) for t in (q, k, v))
        out = _in_runs(q, k, v, sizes, scale)
        return out.unflatten(0, (batch, heads)).transpose(1, 2)

    # rows of a (B*L*h, d) view, listed group by group: (B, h, L) -> (B*h*L)
    device = q.device
    first_row = torch.arange(batch, device=device)[:, None, None] * (tokens * heads)
    head = torch.arange(heads, device=device)[:, None]
    to_groups = (first_row + order * heads + head).flatten()
    to_tokens = torch.empty_like(to_groups)
    to_tokens[to_groups] = torch.arange(to_groups.numel(), device=device)
    q, k, v = (
        _PermuteRows.apply(t.reshape(-1, head_dim), to_groups, to_tokens).view(
            batch * heads, tokens, head_dim
        )
        for t in (q, k, v)
    )
    out = _in_runs(q, k, v, sizes, scale)
    out = _PermuteRows.apply(out.reshape(-1, head_dim), to_tokens, to_groups)
    return out.view(batch, tokens, heads, head_dim)


def _in_runs(q: Tensor, k: Tensor, v: Tensor, sizes: list[int], scale: float | None) -> Tensor:
    """Attention of (B*h, L, d) tokens inside runs of these sizes, which differ by one at most."""
    # larger runs come first: at most two calls, no mask
    larger = sizes.count(sizes[0]) if sizes[0] != sizes[-1] else 0
    cut, parts = larger * sizes[0], []
    for start, stop, size in ((0, cut, sizes[0]), (cut, q.shape[1], sizes[-1])):
        if stop > start:
            part = (t[:, start:stop].unflatten(1, (-1, size)) for t in (q, k, v))
            parts.append(F.scaled_dot_product_attention(*part, scale=scale).flatten(1, 2))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
