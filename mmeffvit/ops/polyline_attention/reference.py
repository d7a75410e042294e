"""The formulas of polyline path masked attention, with all masks and weights spelt out."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops.precision import in_full, in_full_precision


def path_sums(steps: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the steps along rows and along columns, (B, h, H, W) each, in float32 at least."""
    along_row, along_column = in_full(steps).permute(4, 0, 3, 1, 2).unbind()
    return along_row.cumsum(-1), along_column.cumsum(-2)


def line_masks(sums: Tensor) -> Tensor:
    """(..., n) sums along lines of n tokens to (..., n, n): the sum of all steps between two."""
    return -(sums[..., :, None] - sums[..., None, :]).abs()


def signs(size: int, like: Tensor) -> Tensor:
    """(n, n): ``sign(i - j)``. Steps are negative: a mask is ``sign(i - j) (c_i - c_j)``."""
    places = torch.arange(size, device=like.device)
    return (places[:, None] - places).sign().to(like.dtype)


def polyline_mask(steps: Tensor) -> Tensor:
    """(B, h, L, L): along the row of the query to the column of the key, then along that column.

    Args:
        steps: As in `polyline_attention`.
    """
    row_sums, column_sums = path_sums(steps)
    along_row = line_masks(row_sums)[:, :, :, :, None]  # (B, h, y1, x1, 1, x2)
    along_column = line_masks(column_sums.transpose(2, 3))  # (B, h, x2, y1, y2)
    along_column = along_column.permute(0, 1, 3, 4, 2)[:, :, :, None]  # (B, h, y1, 1, y2, x2)
    return (along_row + along_column).flatten(4, 5).flatten(2, 3)


@in_full_precision
def polyline_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    steps: Tensor,
    *,
    decomposed: bool = False,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.polyline_attention`."""
    k = k * (q.shape[-1] ** -0.5 if scale is None else scale)
    if not decomposed:
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        mask = polyline_mask(steps)
        logits = q @ k.transpose(-1, -2)
        weights = (logits + mask).softmax(-1) + (logits + mask.transpose(-1, -2)).softmax(-1)
        return (weights / 2 @ v).transpose(1, 2)
    # (B, L, h, d) -> (B, h, H, W, d)
    q, k, v = (t.unflatten(1, steps.shape[1:3]).permute(0, 3, 1, 2, 4) for t in (q, k, v))
    row_sums, column_sums = path_sums(steps)
    in_rows = (q @ k.transpose(-1, -2) + line_masks(row_sums)).softmax(-1)
    q, k = q.transpose(2, 3), k.transpose(2, 3)
    in_columns = q @ k.transpose(-1, -2) + line_masks(column_sums.transpose(2, 3))
    in_columns = in_columns.softmax(-1)

    def along_columns(values: Tensor) -> Tensor:
        return (in_columns @ values.transpose(2, 3)).transpose(2, 3)

    out = (along_columns(in_rows @ v) + in_rows @ along_columns(v)) / 2
    return out.permute(0, 2, 3, 1, 4).flatten(1, 2)
