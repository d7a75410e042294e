"""Attention across scales as one call of `scaled_dot_product_attention`.

Maps are reshaped, not gathered: a region is a block of a map. Weights are never held.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def by_region(x: Tensor, side: int) -> Tensor:
    """(B, R s, C s, h, d) to (B R C, h, s^2, d), rows first inside a region."""
    x = x.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5).flatten(0, 2)


def _to_map(x: Tensor, side: int, shape: torch.Size) -> Tensor:
    x = x.unflatten(0, (shape[0], shape[1] // side, shape[2] // side)).unflatten(4, (side, side))
    return x.permute(0, 1, 4, 2, 5, 3, 6).reshape(shape)


def region_attention_fused(
    q: Sequence[Tensor],
    k: Sequence[Tensor],
    v: Sequence[Tensor],
    sides: Sequence[int],
    valid: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """See :func:`mmeffvit.ops.region_attention.region_attention`."""
    grouped = (
        torch.cat([by_region(x, side) for x, side in zip(levels, sides)], 2) for levels in (q, k, v)
    )
    mask = None
    if valid is not None:
        keys = [by_region(x[None, ..., None, None], side) for x, side in zip(valid, sides)]
        # (R C, 1, 1, T), the same for every image
        mask = torch.cat(keys, 2).transpose(2, 3).repeat(q[0].shape[0], 1, 1, 1)
    out = F.scaled_dot_product_attention(*grouped, attn_mask=mask)
    parts = out.split([side * side for side in sides], 2)
    return [_to_map(part, side, x.shape) for part, side, x in zip(parts, sides, v)]
