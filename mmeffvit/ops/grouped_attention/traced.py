"""Attention inside groups as one masked call, whose graph holds for maps of any size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def grouped_attention_traced(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    num_groups: int,
    order: Tensor | None = None,
    *,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.grouped_attention.grouped_attention`, for compiled graphs.

    All groups are padded to the size of the largest, and the pads masked: no choice depends on the
    number of tokens, which may be symbolic.
    """
    tokens, device = q.shape[1], q.device
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    if num_groups <= 1:
        return F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)

    groups = min(num_groups, tokens)
    # the first `larger` groups have one token more than the others
    size, larger = tokens // groups, tokens % groups
    padded = (tokens + groups - 1) // groups
    group = torch.arange(groups, device=device)
    first = group * size + group.clamp_max(larger)
    slot = torch.arange(padded, device=device)
    rank = (first[:, None] + slot).clamp_max(tokens - 1)  # (K, padded)
    present = slot < size + (group < larger).long()[:, None]

    if order is None:
        order = torch.arange(tokens, device=device)
    order = order.expand(q.shape[:3])  # (B, h, L)
    head_dim = q.shape[-1]
    index = order[:, :, rank.flatten()][..., None].expand(-1, -1, -1, head_dim)
    # (B, h, L, d) -> (B, h, K, padded, d) -> (B*h, K, padded, d)
    q, k, v = (t.gather(2, index).unflatten(2, (groups, padded)).flatten(0, 1) for t in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=present[None, :, None], scale=scale)

    # where each rank stands among the padded groups, then each token
    rank = torch.arange(tokens, device=device)
    in_larger = rank < larger * (size + 1)
    group = torch.where(in_larger, rank // (size + 1), (rank - larger) // size)
    place = rank - first[group] + group * padded
    index = place[order.argsort(dim=-1)][..., None].expand(-1, -1, -1, head_dim)
    out = out.flatten(1, 2).unflatten(0, order.shape[:2])
    return out.gather(2, index).transpose(1, 2)
