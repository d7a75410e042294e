"""The formula, pair by pair: several (pairs, h, d) tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops.points.segments import segment_softmax
from mmeffvit.ops.points.windows import RelativeWindows
from mmeffvit.ops.precision import autocast_disabled, in_full


def window_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_table: Tensor,
    k_table: Tensor,
    v_table: Tensor,
    windows: RelativeWindows,
) -> Tensor:
    """See :func:`mmeffvit.ops.points.window_attention`."""
    dtype = q.dtype
    query, key = windows.pairs
    rows = windows.bins[query] - windows.bins[key] + windows.num_bins - 1  # (pairs, 3)

    def positions(table: Tensor) -> Tensor:
        return sum(table[rows[:, axis], axis] for axis in range(3))  # (pairs, h, d)

    with autocast_disabled(q.device.type):
        q, k, v, q_table, k_table, v_table = map(in_full, (q, k, v, q_table, k_table, v_table))
        logits = (q[query] * (k[key] + positions(q_table))).sum(-1)
        logits = logits + (k[key] * positions(k_table)).sum(-1)
        weights = segment_softmax(logits, query, len(q))
        values = weights[..., None] * (v[key] + positions(v_table))
        return torch.zeros_like(q).index_add(0, query, values).to(dtype)
