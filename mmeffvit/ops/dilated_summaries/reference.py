"""The formulas of dilated summaries and of attention to them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.dilated_summaries.places import axis_places
from mmeffvit.ops.precision import autocast_disabled, in_full, in_full_precision


def dilated_summaries_reference(
    x: Tensor, num_heads: int, window_size: int, dilation: int
) -> Tensor:
    """See :func:`mmeffvit.ops.dilated_summaries`."""
    span = dilation * (window_size - 1) + 1
    with autocast_disabled(x.device.type):
        padded = in_full(x)
        for axis in (2, 3):
            length = padded.shape[axis]
            whole = (length + span - 1) // span * span
            padded = padded.index_select(axis, axis_places(length, whole, x.device))
        # (B, C * k * k, windows), windows row by row
        points = F.unfold(padded, window_size, dilation, stride=span)
        points = points.unflatten(1, (num_heads, -1, window_size**2))  # (B, h, D, k * k, windows)
        dim = points.shape[2]
        in_a_row = points.permute(0, 1, 3, 4, 2).flatten(3)
        return (
            F.adaptive_avg_pool1d(in_a_row.flatten(0, 1), dim)
            .view(*in_a_row.shape[:3], dim)
            .to(x.dtype)
        )


@in_full_precision
def summary_attention_reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """See :func:`mmeffvit.ops.summary_attention`."""
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    return weights @ v
