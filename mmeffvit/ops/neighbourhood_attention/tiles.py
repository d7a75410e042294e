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


def check_windows(size: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]) -> None:
    """Raise a ValueError if the windows are no windows, or do not fit into a map of this size."""
    for axis, length, keys, step in zip(("rows", "columns"), size, kernel, dilation):
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

    def _positions(self, first: tuple[int, ...], count: int, device) -> Tensor:
        steps = torch.arange(count, device=device) * self.dilation
        return torch.tensor(first, device=device).unsqueeze(1) + steps


def _tile_size(length: int, kernel: int) -> int:
    """Near-equal tiles, none longer than what suits the kernel."""
    if length - kernel < _SPARE:
        longest = _LONGEST_TILE
    else:
        longest = _TILE_OF_SMALL_KERNELS if kernel <= _SMALL_KERNEL else _TILE
    tiles = -(-length // longest)
    return -(-length // tiles)


@functools.lru_cache(maxsize=256)
def axis_tiles(length: int, kernel: int, dilation: int) -> tuple[AxisTiles, ...]:
    """Cut an axis into tiles, those that look alike together.

    The positions of one phase (``i mod D``) are an axis of their own with dilation 1.

    Args:
        length: Size n of the axis, at least ``kernel * dilation``.
        kernel: Odd number of neighbours.
        dilation: Distance D between neighbours.
    """
    groups: dict[tuple, list[tuple[int, int]]] = {}
    for phase in range(dilation):
        count = -(-(length - phase) // dilation)
        size = _tile_size(count, kernel)
        for start in range(0, count, size):
            ranks = range(start, min(start + size, count))
            firsts = [min(max(rank - kernel // 2, 0), count - kernel) for rank in ranks]
            offsets = tuple(first - firsts[0] for first in firsts)
            alike = groups.setdefault((offsets, offsets[-1] + kernel), [])
            alike.append((start * dilation + phase, firsts[0] * dilation + phase))
    return tuple(
        AxisTiles(*zip(*places), offsets, window, kernel, dilation)
        for (offsets, window), places in groups.items()
    )


@dataclass(frozen=True)
class MapTiles:
    """Tiles of a map that look alike: the product of the tiles of two axes."""

    rows: AxisTiles
    columns: AxisTiles
    width: int

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
        return self._tokens(self.rows.query_positions(device), self.columns.query_positions(device))

    def key_tokens(self, device: torch.device | str) -> Tensor:
        """(tiles, keys) row-major tokens."""
        return self._tokens(self.rows.key_positions(device), self.columns.key_positions(device))

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

    def _tokens(self, rows: Tensor, columns: Tensor) -> Tensor:
        tokens = rows[:, None, :, None] * self.width + columns[None, :, None, :]
        return tokens.reshape(self.count, -1)


def map_tiles(
    height: int, width: int, kernel: tuple[int, int], dilation: tuple[int, int]
) -> list[MapTiles]:
    """Cut a map into tiles, those that look alike together; every token is in one tile."""
    return [
        MapTiles(rows, columns, width)
        for rows in axis_tiles(height, kernel[0], dilation[0])
        for columns in axis_tiles(width, kernel[1], dilation[1])
    ]
