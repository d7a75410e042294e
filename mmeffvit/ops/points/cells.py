"""Integer cells: keys that keep their order, look-up of cells, and clusters of points by cell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmeffvit.ops.points.batches import check_points

#: keys stay below it; more distinct cells than that need columns to be ranked first
_KEY_LIMIT = 2**62
#: float64 counts cells exactly up to here
_CELL_LIMIT = 2**53


class CellKeys:
    """One int64 per row of integers, in the lexicographic order of the rows.

    Columns are folded into one number. Where their ranges are too large for 63 bits (one stray
    point far away is enough), what is folded so far is replaced by its rank among the rows.

    Args:
        rows: (N, D) integers; the first column is the slowest.
    """

    def __init__(self, rows: Tensor):
        rows = rows.long()
        if len(rows):
            low, high = (t.tolist() for t in rows.aminmax(dim=0))
        else:
            low, high = [0] * rows.shape[1], [0] * rows.shape[1]
        self._low, self._high = low, high
        #: before the column of this number, keys become ranks in this sorted tensor
        self._ranks: dict[int, Tensor] = {}
        key, extent = torch.zeros_like(rows[:, 0]), 1
        for column in range(rows.shape[1]):
            size = high[column] - low[column] + 1
            if extent * size > _KEY_LIMIT:
                self._ranks[column], key = torch.unique(key, return_inverse=True)
                extent = len(self._ranks[column])
            key = key * size + (rows[:, column] - low[column])
            extent *= size
        #: (N) int64
        self.keys = key

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Keys of other rows.

        Args:
            rows: (Q, D) integers.

        Returns:
            (Q) int64 keys, and (Q) bool: False where no row of the table can be equal.
        """
        rows = rows.long()
        low, high = (torch.tensor(v, device=rows.device) for v in (self._low, self._high))
        possible = ((rows >= low) & (rows <= high)).all(1)
        key = torch.zeros_like(rows[:, 0])
        for column in range(rows.shape[1]):
            size = self._high[column] - self._low[column] + 1
            if column in self._ranks:
                key, found = find_sorted(self._ranks[column], key)
                possible &= found
            key = key * size + (rows[:, column] - self._low[column])
        return key, possible


def find_sorted(values: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Places of numbers in a sorted tensor without repetitions, and whether they are there."""
    if len(values) == 0:
        return torch.zeros_like(wanted), torch.zeros_like(wanted, dtype=torch.bool)
    place = torch.searchsorted(values, wanted).clamp_(max=len(values) - 1)
    return place, values[place] == wanted


@dataclass(frozen=True)
class Cells:
    """Rows that are equal, as groups in lexicographic order.

    Attributes:
        inverse: (N) int64, group of every row.
        counts: (M) int64, rows of every group.
        rows: (M, D) int64, the row of every group.
    """

    inverse: Tensor
    counts: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.counts)


def unique_rows(rows: Tensor) -> Cells:
    """Groups of equal rows, ordered lexicographically; ranges of any size.

    Args:
        rows: (N, D) integers.
    """
    keys, inverse, counts = torch.unique(
        CellKeys(rows).keys, return_inverse=True, return_counts=True
    )
    distinct = rows.new_empty((len(keys), rows.shape[1]), dtype=torch.int64)
    # rows of a group are equal: whichever is written last, the result is the same
    distinct[inverse] = rows.long()
    return Cells(inverse, counts, distinct)


def to_cells(xyz: Tensor, size: Tensor | float, start: Tensor | float = 0.0) -> Tensor:
    """``trunc((xyz - start) / size)`` per axis, as the grid clusters of the field are defined.

    Args:
        xyz: (N, 3) coordinates.
        size: Side of a cell, one number or one per axis, in the unit of the coordinates.
        start: Origin of the grid; cells left of it are rounded towards it.

    Returns:
        (N, 3) int64.

    Raises:
        ValueError: A size is not positive, or cells are too far away to be told apart.
    """
    size = torch.as_tensor(size, dtype=xyz.dtype, device=xyz.device)
    if not bool((size > 0).all()):
        raise ValueError(f"the size of a cell must be positive, got {size.tolist()}")
    cells = ((xyz - start) / size).trunc()
    if cells.numel() and not bool((cells.abs() <= _CELL_LIMIT).all()):
        raise ValueError(
            f"points lie up to {float(cells.abs().max()):.3g} cells of size {size.tolist()} from "
            "the origin, where cells cannot be told apart; are the coordinates right?"
        )
    return cells.long()


def grid_cluster(
    xyz: Tensor,
    size: Tensor | float,
    batch: Tensor | None = None,
    start: Tensor | float | None = 0.0,
) -> Cells:
    """Groups of the points of a sample that lie in one cell of a grid.

    Groups are ordered by (batch, z, y, x), x fastest.

    Args:
        xyz: (N, 3) coordinates.
        size: Side of a cell, one number or one per axis.
        batch: (N) int64, sample of every point; one sample if None.
        start: Origin of the grid; None takes the smallest coordinates of all samples.

    Returns:
        Groups; `rows` are (batch, x, y, z) of the cells.

    Raises:
        ValueError: Coordinates are not finite, a size is not positive, or lengths differ.
    """
    check_points(xyz, batch=batch)
    if start is None:
        start = xyz.amin(0) if len(xyz) else 0.0
    cells = to_cells(xyz, size, start)
    if batch is None:
        batch = torch.zeros_like(cells[:, 0])
    slowest_first = torch.cat((batch.long()[:, None], cells.flip(1)), dim=1)
    groups = unique_rows(slowest_first)
    return Cells(groups.inverse, groups.counts, groups.rows[:, [0, 3, 2, 1]])
