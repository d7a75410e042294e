"""How a map is cut for neighbourhood attention: tiles of queries, each with one window of keys."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# a longer tile shares a window among more queries, and masks more of it
_TILE, _TILE_OF_SMALL_KERNELS, _SMALL_KERNEL = 8, 4, 5
# where windows hold hardly more than one kernel, nothing is masked and tiles may be long
_SPARE, _LONGEST_TILE = 8, 32

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
    """Tiles of one axis that look alike: equally many queries, at equal places in the window.

    Attributes:
        queries: First query of each tile.
        keys: First key of the window of each tile.
        offsets: For each query of a tile, where its kernel begins in the window.
        window: Keys in the window.
        kernel: Keys that one query attends to.
        dilation: Distance between neighbouring queries of a tile, and keys of a window.
    """

    queries: tuple[int, ...]
    keys: tuple[int, ...]
    offsets: tuple[int, ...]
    window: int
    kernel: int
    dilation: int

    @property
    def size(self) -> int:
        """Queries in one tile."""
        return len(self.offsets)

    @property
    def dense(self) -> bool:
        """Whether every query of a tile attends to the whole window."""
        return self.window == self.kernel

    def query_positions(self, device: torch.device | str) -> Tensor:
        """(tiles, size) positions on the axis."""
        return self._positions(self.queries, self.size, device)

    def key_positions(self, device: torch.device | str) -> Tensor:
        """(tiles, window) positions on the axis."""
        return self._positions(self.keys, self.window, device)

    def key_slice(self, tile: int) -> slice:
        """The window of one tile."""
        first = self.keys[tile]
        return slice(first, first + (self.window - 1) * self.dilation + 1, self.dilation)

    def allowed(self, device: torch.device | str) -> Tensor:
        """(size, window) bool: which keys of the window a query attends to."""
        distance = torch.arange(self.window, device=device) - torch.tensor(
            self.offsets, device=device
        ).unsqueeze(1)
        return (distance >= 0) & (distance < self.kernel)

    def relative(self, device: torch.device | str) -> Tensor:
        """(size, window): rank of the key minus that of the query, plus ``kernel - 1``.

        For tiles that were grouped by distance. Keys that a query does not attend to have any
        number that is one of a key.
        """
        queries, keys = (torch.arange(n, device=device) for n in (self.size, self.window))
        first = (self.keys[0] - self.queries[0]) // self.dilation
        index = first + keys - queries[:, None] + self.kernel - 1
        return index.clamp_(0, 2 * self.kernel - 2)

    def _positions(self, first: tuple[int, ...], count: int, device) -> Tensor:
        steps = torch.arange(count, device=device) * self.dilation
        return torch.tensor(first, device=device).unsqueeze(1) + steps


def _tile_size(queries: int, keys: int, kernel: int) -> int:
    """Near-equal tiles, none longer than what suits the kernel."""
    if keys - kernel < _SPARE:
        longest = _LONGEST_TILE
    else:
        longest = _TILE_OF_SMALL_KERNELS if kernel <= _SMALL_KERNEL else _TILE
    tiles = -(-queries // longest)
    return -(-queries // tiles)


@functools.lru_cache(maxsize=256)
def axis_tiles(
    length: int, kernel: int, dilation: int, queries: int | None = None, by_distance: bool = False
) -> tuple[AxisTiles, ...]:
    """Cut an axis into tiles, those that look alike together.

    The positions of one phase (``i mod D``) are an axis of their own with dilation 1.

    Args:
        length: Size n of the axis, at least ``kernel * dilation``.
        kernel: Odd number of neighbours.
        dilation: Distance D between neighbours.
        queries: How many of the positions, from the first on, are queries; all if None.
        by_distance: Tiles that look alike are also equally far from their windows.
    """
    queries = length if queries is None else queries
    groups: dict[tuple, list[tuple[int, int]]] = {}
    for phase in range(min(dilation, queries)):
        count, keys = (-(-(n - phase) // dilation) for n in (queries, length))
        size = _tile_size(count, keys, kernel)
        for start in range(0, count, size):
            ranks = range(start, min(start + size, count))
            firsts = [min(max(rank - kernel // 2, 0), keys - kernel) for rank in ranks]
            offsets = tuple(first - firsts[0] for first in firsts)
            distance = firsts[0] - start if by_distance else None
            alike = groups.setdefault((offsets, distance), [])
            alike.append((start * dilation + phase, firsts[0] * dilation + phase))
    return tuple(
        AxisTiles(*zip(*places), offsets, offsets[-1] + kernel, kernel, dilation)
        for (offsets, _), places in groups.items()
    )


@dataclass(frozen=True)
class MapTiles:
    """Tiles of a map that look alike: the product of the tiles of two axes."""

    rows: AxisTiles
    columns: AxisTiles
    width: int
    key_width: int

    @property
    def count(self) -> int:
        return len(self.rows.queries) * len(self.columns.queries)

    @property
    def num_queries(self) -> int:
        return self.rows.size * self.columns.size

    @property
    def num_keys(self) -> int:
        return self.rows.window * self.columns.window

    @property
    def dense(self) -> bool:
        return self.rows.dense and self.columns.dense

    def query_tokens(self, device: torch.device | str) -> Tensor:
        """(tiles, queries) row-major tokens."""
        rows, columns = (axis.query_positions(device) for axis in (self.rows, self.columns))
        return self._tokens(rows, columns, self.width)

    def key_tokens(self, device: torch.device | str) -> Tensor:
        """(tiles, keys) row-major tokens, of the map of the keys."""
        rows, columns = (axis.key_positions(device) for axis in (self.rows, self.columns))
        return self._tokens(rows, columns, self.key_width)

    def key_slices(self, tile: int) -> tuple[slice, slice]:
        """Rows and columns of the window of one tile."""
        row, column = divmod(tile, len(self.columns.queries))
        return self.rows.key_slice(row), self.columns.key_slice(column)

    def mask(self, device: torch.device | str, dtype: torch.dtype) -> Tensor:
        """(queries, keys): 0 where a query attends to a key, -inf elsewhere."""
        rows, columns = self.rows.allowed(device), self.columns.allowed(device)
        allowed = (rows[:, None, :, None] & columns[None, :, None, :]).reshape(
            self.num_queries, self.num_keys
        )
        return torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill_(
            ~allowed, float("-inf")
        )

    def relative(self, device: torch.device | str) -> Tensor:
        """(queries * keys): place in a flat table of (2 k_h - 1) x (2 k_w - 1) distances."""
        rows, columns = self.rows.relative(device), self.columns.relative(device)
        places = rows[:, None, :, None] * (2 * self.columns.kernel - 1) + columns[None, :, None, :]
        return places.flatten()

    def _tokens(self, rows: Tensor, columns: Tensor, width: int) -> Tensor:
        tokens = rows[:, None, :, None] * width + columns[None, :, None, :]
        return tokens.reshape(self.count, -1)


def map_tiles(
    size: Size, key_size: Size, kernel: Size, dilation: Size, by_distance: bool = False
) -> list[MapTiles]:
    """Cut a map into tiles, those that look alike together; every query is in one tile.

    Args:
        size: (H, W) of the queries, which are the top left of the map.
        key_size: (H', W') of the map.
        kernel: Neighbours on each axis.
        dilation: Distance between neighbours on each axis.
        by_distance: As for :func:`axis_tiles`.
    """
    rows, columns = (
        axis_tiles(*axis, by_distance) for axis in zip(key_size, kernel, dilation, size)
    )
    return [MapTiles(row, column, size[1], key_size[1]) for row in rows for column in columns]
