"""Reductions over groups of rows."""

from __future__ import annotations

import torch
from torch import Tensor

_REDUCTIONS = ("sum", "mean", "max", "min")


def _check(src: Tensor, index: Tensor) -> None:
    if index.dim() != 1 or len(index) != len(src):
        raise ValueError(
            f"every row needs a segment: got {len(src)} rows and an index of the shape "
            f"{tuple(index.shape)}"
        )


def segment_reduce(src: Tensor, index: Tensor, num_segments: int, reduce: str = "sum") -> Tensor:
    """Reduce the rows of every segment, in any order of rows.

    The gradient of 'max' and 'min' is shared evenly by equal rows. Segments without rows are 0.

    Args:
        src: (N, ...) rows.
        index: (N) int64, segment of every row.
        num_segments: Segments M.
        reduce: 'sum', 'mean', 'max' or 'min'.

    Returns:
        (M, ...).

    Raises:
        ValueError: There is no such reduction, or the lengths differ.
    """
    _check(src, index)
    if reduce not in _REDUCTIONS:
        raise ValueError(f"reduce must be one of {', '.join(_REDUCTIONS)}, got '{reduce}'")
    out = src.new_zeros((num_segments, *src.shape[1:]))
    if reduce == "sum":
        return out.index_add(0, index, src)
    if reduce == "mean":
        counts = torch.bincount(index, minlength=num_segments).clamp_min(1)
        counts = counts.to(src.dtype).reshape(-1, *(1,) * (src.dim() - 1))
        return out.index_add(0, index, src) / counts
    expanded = index.reshape(-1, *(1,) * (src.dim() - 1)).expand_as(src)
    return out.scatter_reduce(0, expanded, src, f"a{reduce}", include_self=False)


def segment_softmax(src: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Softmax over the rows of every segment, column by column.

    Args:
        src: (N, ...) logits.
        index: (N) int64, segment of every row, in any order.
        num_segments: Segments M.

    Returns:
        (N, ...), whose sum over every segment is 1.
    """
    _check(src, index)
    with torch.no_grad():
        highest = segment_reduce(src, index, num_segments, "max")
    weights = (src - highest.index_select(0, index)).exp()
    total = segment_reduce(weights, index, num_segments, "sum")
    return weights / total.index_select(0, index)


def segment_places(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Segments laid out one after the other: the segment of every row, and its place in it.

    Args:
        counts: (M) int64, rows of every segment.

    Returns:
        (N) int64 segments and (N) int64 places, from 0.

    >>> [rows.tolist() for rows in segment_places(torch.tensor([2, 0, 1]))]
    [[0, 0, 2], [0, 1, 0]]
    """
    segment = torch.repeat_interleave(counts)
    starts = counts.cumsum(0) - counts
    return segment, torch.arange(len(segment), device=counts.device) - starts[segment]


def offsets_to_index(indptr: Tensor) -> Tensor:
    """Compressed rows to one segment per row: (M + 1) starts and the end, to (N) int64.

    >>> offsets_to_index(torch.tensor([0, 2, 2, 3])).tolist()
    [0, 0, 2]
    """
    return segment_places(indptr.long().diff())[0]
