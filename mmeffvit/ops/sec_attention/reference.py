"""The formula of semantic equitable clustering attention, one group after the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.grouped_attention.reference import cluster_sizes
from mmeffvit.ops.precision import autocast_disabled, in_full, in_full_precision
from mmeffvit.ops.tracing import is_exporting


def token_order(k: Tensor) -> Tensor:
    """Token indices by ascending cosine similarity to the mean key: (B, L, h, d) -> (B, h, L)."""
    with torch.no_grad(), autocast_disabled(k.device.type):
        k = in_full(k)
        centre = F.normalize(k.mean(dim=1, keepdim=True), dim=-1, eps=1e-12)
        similarity = (F.normalize(k, dim=-1, eps=1e-12) * centre).sum(-1)
        similarity = similarity.transpose(1, 2)
        if is_exporting():
            # ONNX cannot be told to be stable; its TopK puts the earlier of two equal tokens first
            return similarity.argsort(dim=-1)
        return similarity.argsort(dim=-1, stable=True)


def sec_cluster_ids(k: Tensor, num_clusters: int) -> Tensor:
    """Cluster of every token, 0 for the tokens least similar to the mean key.

    Args:
        k: (B, L, h, d) rotated keys.
        num_clusters: Number of clusters K.

    Returns:
        (B, h, L) int64 in 0..K-1.
    """
    order = token_order(k)
    sizes = torch.tensor(cluster_sizes(k.shape[1], num_clusters), device=k.device)
    ids = torch.repeat_interleave(torch.arange(len(sizes), device=k.device), sizes)
    return torch.empty_like(order).scatter_(-1, order, ids.expand_as(order).contiguous())


@in_full_precision
def sec_attention_reference(
    q: Tensor, k: Tensor, v: Tensor, num_clusters: int, *, scale: float | None = None
) -> Tensor:
    """See :func:`mmeffvit.ops.sec_attention`."""
    num_tokens, head_dim = q.shape[1], q.shape[3]
    scale = head_dim**-0.5 if scale is None else scale
    # the official code scales the keys first; a positive factor changes neither cosine nor order
    q, k, v = q.transpose(1, 2), (k * scale).transpose(1, 2), v.transpose(1, 2)
    sizes = cluster_sizes(num_tokens, num_clusters)
    if len(sizes) == 1:
        out = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return out.transpose(1, 2)
    order = token_order(k.transpose(1, 2))[..., None].expand_as(q)
    q, k, v = (t.gather(2, order) for t in (q, k, v))
    if len(set(sizes)) == 1:
        # equal clusters: one batched product, as the official code does
        q, k, v = (t.unflatten(2, (len(sizes), sizes[0])) for t in (q, k, v))
        out = ((q @ k.transpose(-1, -2)).softmax(-1) @ v).flatten(2, 3)
    else:
        out = torch.cat(
            [
                (qi @ ki.transpose(-1, -2)).softmax(-1) @ vi
                for qi, ki, vi in zip(*(t.split(sizes, dim=2) for t in (q, k, v)))
            ],
            dim=2,
        )
    return torch.empty_like(out).scatter(2, order, out).transpose(1, 2)
