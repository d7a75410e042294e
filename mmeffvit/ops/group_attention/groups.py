"""How a map is cut into groups of tokens at an interval, without any token of padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmeffvit.ops.tables import cached_table

Size = tuple[int, int]


@dataclass(frozen=True)
class AxisGroups:
    """Groups of one axis that have equally many tokens.

    Attributes:
        positions: Positions of the tokens of each group, in order.
    """

    positions: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """Tokens of each group."""
        return len(self.positions[0])


def axis_groups(length: int, group: int, interval: int) -> list[AxisGroups]:
    """The groups of an axis: those that are full, and one or two kinds that the end cuts short.

    An axis is cut in regions of ``group * interval`` positions. Group a of a region has the
    positions a, a + interval, a + 2 interval and so on, so that those beyond the end of the axis
    are the last ones of a group, and groups of these alone do not exist.

    Args:
        length: Positions of the axis.
        group: Tokens G of a full group.
        interval: Distance I between the tokens of a group.
    """
    region = group * interval
    kinds: dict[int, list[tuple[int, ...]]] = {}
    for first in range(0, length, region):
        for start in range(first, min(first + interval, length)):
            positions = tuple(range(start, min(first + region, length), interval))
            kinds.setdefault(len(positions), []).append(positions)
    return [AxisGroups(tuple(groups)) for groups in kinds.values()]


@dataclass(frozen=True)
class Kind:
    """Groups of a map with equally many rows and columns: how many, and their sides."""

    count: int
    size: Size

    @property
    def tokens(self) -> int:
        """Tokens of all of them."""
        return self.count * self.size[0] * self.size[1]


@dataclass(frozen=True, eq=False)
class MapGroups:
    """The groups of a map, kind by kind.

    Attributes:
        kinds: At most four without an interval, nine with one.
        order: (L,) tokens, row-major, in the order of kinds, groups, and tokens of a group.
        back: (L,) its inverse.
    """

    kinds: tuple[Kind, ...]
    order: Tensor
    back: Tensor


@cached_table(maxsize=64)
def map_groups(size: Size, group: Size, interval: int, device: torch.device) -> MapGroups:
    """Cut a map into groups; made once for a size.

    Args:
        size: Rows and columns of the map.
        group: Rows and columns of a full group.
        interval: Distance between the tokens of a group, on both axes.
        device: Where the order lives.
    """
    rows, columns = (axis_groups(n, g, interval) for n, g in zip(size, group))
    kinds, order = [], []
    for row in rows:
        for column in columns:
            y, x = (torch.tensor(axis.positions, device=device) for axis in (row, column))
            # (groups of rows, groups of columns, rows, columns)
            tokens = y[:, None, :, None] * size[1] + x[None, :, None, :]
            order.append(tokens.flatten())
            kinds.append(Kind(len(y) * len(x), (row.tokens, column.tokens)))
    whole = torch.cat(order)
    return MapGroups(tuple(kinds), whole, whole.argsort())
