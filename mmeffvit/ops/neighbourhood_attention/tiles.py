"""How a map is cut for neighbourhood attention: tiles of queries, each with one window of keys."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# queries of a tile on an axis: more share a window, and mask more of it. Strips are copied once
# for all their rows, so that short tiles cost least there
_ROWS, _COLUMNS, _COLUMNS_OF_SMALL_KERNELS, _SMALL_KERNEL = 4, 8, 4, 5
# where windows hold hardly more than one kernel, the whole axis is one tile
_SPARE = 8

Size = tuple[int, int]


def check_windows(
    size: Sequence[int], key_size: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> None:
    """Raise a ValueError if the windows are no windows, or do not fit into a map of `key_size`."""
    for axis, queries, length, keys, step in zip(
        ("rows", "columns"), size, key_size, kernel, dilation
    ):
        if queries > length:
            raise ValueError(
                f"neighbourhood_attention has keys of {length} {axis} for queries of {queries}; "
                "the map of the keys must be of one shape with that of the queries, or larger"
            )
        if keys < 1 or keys % 2 == 0 or step < 1:
            raise ValueError(
                "neighbourhood_attention needs odd kernels and dilations of at least 1, got "
                f"kernel={tuple(kernel)} and dilation={tuple(dilation)}"
            )
        if keys * step > length:
            raise ValueError(
                f"a kernel of {keys} at dilation {step} needs {keys * step} {axis}, the map has "
                f"{length}; use a smaller kernel or dilation"
            )


@dataclass(frozen=True)
class AxisTiles:
    """Tiles of one phase of an axis that look alike, at equal distances from each other.

    Positions are ranks, which count the positions of a phase.

    Attributes:
        count: Tiles.
        query: First query of the first tile.
        query_step: From the first query of a tile to that of the next.
        key: First key of the window of the first tile.
        key_step: From the first key of a window to that of the next.
        offsets: For each query of a tile, where its kernel begins in the window.
        window: Keys in the window.
        kernel: Keys that one query attends to.
        beyond: Queries at the end of the last tile that are none: other tiles have them, or none.
    """

    count: int
    query: int
    query_step: int
    key: int
    key_step: int
    offsets: tuple[int, ...]
    window: int
    kernel: int
    beyond: int = 0

    @property
    def size(self) -> int:
        """Queries in one tile."""
        return len(self.offsets)

    @property
    def dense(self) -> bool:
        """Whether every query of a tile attends to the whole window."""
        return self.window == self.kernel

    @property
    def query_end(self) -> int:
        """The rank after the last query."""
        return self.query + (self.count - 1) * self.query_step + self.size

    @property
    def key_end(self) -> int:
        """The rank after the last key."""
        return self.key + (self.count - 1) * self.key_step + self.window

    @property
    def offsets_alone(self) -> AxisTiles:
        """One tile whose queries attend to the same keys of the window."""
        return replace(self, count=1, query=0, query_step=1, key=0, key_step=1, beyond=0)

    @property
    def distances(self) -> AxisTiles:
        """The fewest tiles whose keys are as far from their queries."""
        if self.key_step != self.query_step:
            return self
        return replace(self.offsets_alone, key=self.key - self.query)

    def part(self, first: int, count: int) -> AxisTiles:
        """At most `count` of the tiles, from the first on."""
        count = min(count, self.count - first)
        return replace(
            self,
            count=count,
            query=self.query + first * self.query_step,
            key=self.key + first * self.key_step,
            beyond=self.beyond if first + count == self.count else 0,
        )

    def allowed(self, device: torch.device | str) -> Tensor:
        """(size, window) bool: which keys of the window a query attends to."""
        offsets = torch.tensor(self.offsets, device=device)[:, None]
        distance = torch.arange(self.window, device=device) - offsets
        return (distance >= 0) & (distance < self.kernel)

    def relative(self, device: torch.device | str) -> Tensor:
        """(tiles, size, window): rank of the key minus that of the query, plus ``kernel - 1``.

        Of the tiles of `distances`. Keys that a query does not attend to have any number that is
        one of a key.
        """
        tiles = self.distances.count
        tile, query, key = (torch.arange(n, device=device) for n in (tiles, self.size, self.window))
        first = self.key - self.query + tile * (self.key_step - self.query_step)
        index = first[:, None, None] + key - query[:, None] + self.kernel - 1
        return index.clamp_(0, 2 * self.kernel - 2)


@dataclass(frozen=True)
class Phases:
    """Phases of an axis that are equally long, and the tiles that each of them is cut into.

    Attributes:
        first: The first of the phases.
        count: Phases, which follow each other.
        dilation: Distance between neighbours of a phase.
        tiles: Of one phase; every query is in one of them. A tile may reach into those that come
            after it in this list, which have the truth about what they share.
    """

    first: int
    count: int
    dilation: int
    tiles: tuple[AxisTiles, ...]

    @property
    def keys(self) -> int:
        """The rank after the last key of any tile."""
        return max(tiles.key_end for tiles in self.tiles)

    def end(self, rank: int) -> int:
        """The position after that of a rank's predecessor, in the last of the phases."""
        return self.first + self.count + (rank - 1) * self.dilation


def tile_size(kernel: Size) -> Size:
    """The most queries of a tile, on rows and columns."""
    small = kernel[1] <= _SMALL_KERNEL
    longest = _ROWS, _COLUMNS_OF_SMALL_KERNELS if small else _COLUMNS
    return tuple(1 if keys == 1 else tile for keys, tile in zip(kernel, longest))


def _cut(keys: int, queries: int, kernel: int, longest: int) -> tuple[AxisTiles, ...]:
    """Tiles of the first `queries` ranks of an axis of dilation 1."""
    half, last = kernel // 2, keys - kernel
    if last < _SPARE:
        offsets = tuple(min(max(rank - half, 0), last) for rank in range(queries))
        return (AxisTiles(1, 0, 1, 0, 1, offsets, offsets[-1] + kernel, kernel),)
    tiles = []
    inner = min(queries, keys - half) - half
    if inner > 0:
        count = -(-inner // longest)
        size = -(-inner // count)
        offsets, beyond = tuple(range(size)), count * size - inner
        window = size + kernel - 1
        tiles.append(AxisTiles(count, half, size, 0, size, offsets, window, kernel, beyond))
    # queries before the first centre of a window, and after the last, share the window next to them
    before, after = min(half, queries), max(0, queries - keys + half)
    if before and before == after:
        tiles.append(AxisTiles(2, 0, keys - half, 0, last, (0,) * half, kernel, kernel))
    else:
        if before:
            tiles.append(AxisTiles(1, 0, 1, 0, 1, (0,) * before, kernel, kernel))
        if after:
            tiles.append(AxisTiles(1, keys - half, 1, last, 1, (0,) * after, kernel, kernel))
    return tuple(tiles)


@functools.lru_cache(maxsize=256)
def axis_phases(
    length: int, kernel: int, dilation: int, queries: int, tile: int
) -> tuple[Phases, ...]:
    """Cut an axis into phases (positions of one ``i mod D``), and these into tiles.

    The positions of one phase are an axis of their own with dilation 1.

    Args:
        length: Size n of the axis, at least ``kernel * dilation``.
        kernel: Odd number of neighbours.
        dilation: Distance D between neighbours.
        queries: How many of the positions, from the first on, are queries.
        tile: The most queries of one tile, but where the whole axis is one.
    """
    alike: dict[tuple[int, int], list[int]] = {}
    for phase in range(min(dilation, queries)):
        sizes = tuple(-(-(n - phase) // dilation) for n in (length, queries))
        alike.setdefault(sizes, []).append(phase)
    return tuple(
        Phases(phases[0], len(phases), dilation, _cut(*sizes, kernel, tile))
        for sizes, phases in alike.items()
    )
