"""The formula of multi-scale deformable attention, level by level."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def split_levels(values: Tensor, shapes: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
    """(B, S, h, d) -> a (B, H_v W_v, h, d) view of every level."""
    return values.split([height * width for height, width in shapes], dim=1)


def deformable_attention_reference(
    values: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """See :func:`mmeffvit.ops.deformable_attention`."""
    batch, _, heads, dim = values.shape
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # (B h, Q, V, P, 2) in [-1, 1]
    weights = weights.transpose(1, 2).flatten(0, 1)  # (B h, Q, V, P)
    out = values.new_zeros(batch * heads, dim, weights.shape[1])
    for level, (shape, value) in enumerate(zip(shapes, split_levels(values, shapes))):
        plane = value.permute(0, 2, 3, 1).reshape(batch * heads, dim, *shape)
        # (B h, d, Q, P), zero outside of the level
        samples = F.grid_sample(plane, grids[:, :, level], align_corners=False)
        out = out + (samples * weights[:, None, :, level]).sum(-1)
    return out.unflatten(0, (batch, heads)).permute(0, 3, 1, 2)
