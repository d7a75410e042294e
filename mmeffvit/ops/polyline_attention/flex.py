"""Whole polyline attention by `flex_attention`: two softmaxes, whose paths are read from tables."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import flex
from mmeffvit.ops.manhattan_attention.flex import map_places
from mmeffvit.ops.polyline_attention.reference import path_sums, signs


def refuses(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    steps: Tensor,
    *,
    decomposed: bool = False,
    scale: float | None = None,
) -> str | None:
    """Why `flex_attention` cannot run on these arguments, or None."""
    if decomposed:
        return "the masks inside of rows and columns are small: nothing is saved"
    return flex.refuses(q, k, v, steps)


def _line_masks(sums: Tensor) -> Tensor:
    """(..., n) sums along lines to (..., n, n), whose gradients need no sign of a difference."""
    return signs(sums.shape[-1], sums) * (sums[..., :, None] - sums[..., None, :])


def polyline_attention_flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    steps: Tensor,
    *,
    decomposed: bool = False,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.polyline_attention`."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    row, column = map_places(*steps.shape[1:3], q.device)
    row_sums, column_sums = path_sums(steps)
    # (B, h, L, W) by a token and a column, and (B, h, L, H) by a token and a row
    in_rows = _line_masks(row_sums).flatten(2, 3)
    in_columns = _line_masks(column_sums.transpose(2, 3)).transpose(2, 3).flatten(2, 3)

    def row_first(score, sample, head, query, key):
        along_row = in_rows[sample, head, query, column[key]]
        return score + along_row + in_columns[sample, head, key, row[query]]

    def column_first(score, sample, head, query, key):
        along_column = in_columns[sample, head, query, row[key]]
        return score + along_column + in_rows[sample, head, key, column[query]]

    outs = [flex.attend(q, k, v, scale, paths) for paths in (row_first, column_first)]
    return (outs[0] + outs[1]) / 2
