"""Cutting a map into windows, and putting it together again."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: rows and columns of a window; None is the whole axis
Window = tuple[int | None, int | None]

PADDINGS = ("even", "end")


class _Axis(NamedTuple):
    """How an axis is cut.

    Attributes:
        windows: How many, and their side.
        zeros: Put before and after the axis.
    """

    windows: tuple[int, int]
    zeros: tuple[int, int]


def _axis(length: int, side: int | None, padding: str) -> _Axis:
    if side is None:
        return _Axis((1, length), (0, 0))
    count = (length + side - 1) // side
    missing = count * side - length
    before = missing // 2 if padding == "even" else 0
    return _Axis((count, side), (before, missing - before))


def to_windows(x: Tensor, window: Window, padding: str = "even") -> Tensor:
    """Cut a map into windows, row by row, with zeros where the last ones are not full.

    Args:
        x: (B, H, W, ...).
        window: Rows r and columns c of a window; None is the whole axis.
        padding: Where zeros are put on an axis that windows do not divide: ``'even'`` on both ends,
            the odd one at the end, or ``'end'``, below and to the right only.

    Returns:
        (B * windows, r, c, ...); a view of `x` where its memory allows it.
    """
    rows, columns = (_axis(n, side, padding) for n, side in zip(x.shape[1:3], window, strict=True))
    # sizes may be symbolic while a graph is traced: whether zeros are needed is not asked there
    if torch.compiler.is_compiling() or any(rows.zeros + columns.zeros):
        x = F.pad(x, (0, 0) * (x.dim() - 3) + columns.zeros + rows.zeros)
    x = x.unflatten(2, columns.windows).unflatten(1, rows.windows)  # (B, ., r, ., c, ...)
    return x.transpose(2, 3).flatten(0, 2)


def from_windows(
    windows: Tensor, size: tuple[int, int], window: Window, padding: str = "even"
) -> Tensor:
    """The inverse of :func:`to_windows`: zeros that it added are cut off.

    Args:
        windows: (B * windows, r, c, ...).
        size: Rows and columns of the map.
        window: As it was cut.
        padding: As it was cut.

    Returns:
        (B, H, W, ...).
    """
    rows, columns = (_axis(n, side, padding) for n, side in zip(size, window, strict=True))
    x = windows.unflatten(0, (-1, rows.windows[0], columns.windows[0])).transpose(2, 3)
    x = x.flatten(1, 2).flatten(2, 3)
    for axis, (cut, side, length) in enumerate(zip((rows, columns), window, size), start=1):
        if torch.compiler.is_compiling() and side is not None:
            # how a slice lies in memory would say in the graph whether there were zeros
            x = x.index_select(axis, torch.arange(length, device=x.device) + cut.zeros[0])
        elif any(cut.zeros):
            x = x.narrow(axis, cut.zeros[0], length)
    return x
