"""The formula of attention inside groups, one group after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops.precision import in_full_precision


def cluster_sizes(num_tokens: int, num_clusters: int) -> list[int]:
    """Sizes of near-equal groups: they differ by one at most, larger ones first.

    >>> cluster_sizes(10, 4)
    [3, 3, 2, 2]
    """
    clusters = max(1, min(num_clusters, num_tokens))
    size, larger = divmod(num_tokens, clusters)
    return [size + 1] * larger + [size] * (clusters - larger)


@in_full_precision
def grouped_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    num_groups: int,
    order: Tensor | None = None,
    *,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.grouped_attention.grouped_attention`."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (B, h, L, d)
    if order is None:
        order = torch.arange(q.shape[2], device=q.device)
    index = order.expand(q.shape[:3])[..., None].expand_as(q)
    parts = (t.gather(2, index).split(cluster_sizes(q.shape[2], num_groups), 2) for t in (q, k, v))
    outs = [(a @ b.transpose(-1, -2) * scale).softmax(-1) @ c for a, b, c in zip(*parts)]
    out = torch.cat(outs, 2)
    return torch.empty_like(out).scatter(2, index, out).transpose(1, 2)
