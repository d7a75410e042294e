"""Where tiles of queries and windows of keys lie in the memory of a map, and in that of strips.

A strip is a copy of some columns of the keys, one window wide. In it the keys of a window follow
each other, whatever its row: windows are views of strips that overlap.

Letters beside those of shapes: P phases, S strips, T tiles of a strip, t queries and w keys of a
tile on an axis, R rows of a strip; N = B h P P S strips of all samples, heads and phases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.neighbourhood_attention.tiles import (
    AxisTiles,
    Phases,
    Size,
    axis_phases,
    tile_size,
)


@dataclass(frozen=True)
class Strips:
    """Some strips of the map: equally long phases of both axes, and tiles of columns alike."""

    rows: Phases
    columns: Phases
    across: AxisTiles

    @property
    def lead(self) -> tuple[int, int, int]:
        """(P, P, S) of N = B h P P S."""
        return self.rows.count, self.columns.count, self.across.count

    def numbers(self, x: Tensor) -> int:
        """How many a copy of (B, H, W, h, d) has."""
        batch, heads, dim = x.shape[0], *x.shape[3:]
        return batch * heads * math.prod(self.lead) * self.rows.keys * self.across.window * dim

    def copy(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, H, W, h, d) to strips (N, R, w, d)."""
        place = self._place(x, self.across.key, self.across.key_step, self.across.window)
        return compact(place, dtype).view(-1, *place.shape[5:])

    def add(self, total: Tensor, strips: Tensor) -> None:
        """Add (N, R, w, d) to the columns of (B, H, W, h, d) that the strips were copied from."""
        strips = strips.unflatten(0, (total.shape[0], total.shape[3], *self.lead))
        # columns that no two of the strips share
        step = self.across.key_step if self.across.count > 1 else self.across.window
        for first in range(0, self.across.window, step):
            part = strips[..., first : first + step, :]
            place = self._place(total, self.across.key + first, step, part.shape[-2])
            place.add_(part)

    def _place(self, x: Tensor, key: int, step: int, window: int) -> Tensor:
        """View (B, h, P, P, S, R, w, d) of a map."""
        batch, _, _, heads, dim = x.shape
        of_batch, of_row, of_column, of_head, of_channel = x.stride()
        down, right = self.rows.dilation * of_row, self.columns.dilation * of_column
        first = self.rows.first * of_row + self.columns.first * of_column
        return x.as_strided(
            (batch, heads, *self.lead, self.rows.keys, window, dim),
            (of_batch, of_head, of_row, of_column, step * right, down, right, of_channel),
            x.storage_offset() + first + key * right,
        )

    def tiles(self) -> Iterator[MapTiles]:
        """The tiles of these strips, those that look alike together, in their order."""
        for down in self.rows.tiles:
            yield MapTiles(self, down)


@dataclass(frozen=True)
class MapTiles:
    """Tiles of a map that look alike: the product of the tiles of two axes."""

    strips: Strips
    down: AxisTiles

    @property
    def across(self) -> AxisTiles:
        return self.strips.across

    @property
    def num_queries(self) -> int:
        """Of one tile."""
        return self.down.size * self.across.size

    @property
    def num_keys(self) -> int:
        """Of one window."""
        return self.down.window * self.across.window

    def queries(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """A copy of (B, H, W, h, d) as (T, N, t t, d)."""
        place = self._place(x)
        return compact(place, dtype).view(self.down.count, -1, self.num_queries, x.shape[-1])

    def write(self, x: Tensor, tiles: Tensor) -> None:
        """Put (T, B, h, P, P, S, t t, d) to where the queries are in (B, H, W, h, d)."""
        place = self._place(x)
        place.copy_(tiles.unflatten(6, place.shape[6:8]))

    def _place(self, x: Tensor) -> Tensor:
        """View (T, B, h, P, P, S, t, t, d) of a map."""
        batch, _, _, heads, dim = x.shape
        of_batch, of_row, of_column, of_head, of_channel = x.stride()
        rows, columns, across = self.strips.rows, self.strips.columns, self.across
        down, right = rows.dilation * of_row, columns.dilation * of_column
        first = rows.first * of_row + columns.first * of_column
        return x.as_strided(
            (
                *(self.down.count, batch, heads, *self.strips.lead),
                *(self.down.size, across.size, dim),
            ),
            (
                *(self.down.query_step * down, of_batch, of_head, of_row, of_column),
                *(across.query_step * right, down, right, of_channel),
            ),
            x.storage_offset() + first + self.down.query * down + across.query * right,
        )

    def windows(self, strips: Tensor) -> Tensor:
        """View (T, N, w w, d) of the strips (N, R, w, d), in which tokens are equally far apart."""
        of_strip, of_row, of_token, of_channel = strips.stride()
        return strips.as_strided(
            (self.down.count, len(strips), self.num_keys, strips.shape[-1]),
            (self.down.key_step * of_row, of_strip, of_token, of_channel),
            strips.storage_offset() + self.down.key * of_row,
        )

    def add(self, total: Tensor, windows: Tensor) -> None:
        """Add (T, N, w w, d) to the strips (N, R, w, d) that the windows are views of."""
        place = self.windows(total)
        # rows that no two of the windows share
        step = self.down.key_step if self.down.count > 1 else self.down.window
        for first in range(0, self.down.window, step):
            last = min(first + step, self.down.window)
            keys = slice(first * self.across.window, last * self.across.window)
            place[:, :, keys].add_(windows[:, :, keys])

    def clear_beyond(self, tiles: Tensor) -> None:
        """Set to zero what (T, N, t t, d) have in places of queries that are none."""
        tiles = tiles.unflatten(2, (self.down.size, self.across.size))
        if self.down.beyond:
            tiles[-1, :, -self.down.beyond :] = 0
        if self.across.beyond:
            tiles.unflatten(1, (-1, self.across.count))[:, :, -1, :, -self.across.beyond :] = 0


@dataclass(frozen=True)
class MapCut:
    """A map of keys, and queries in its top left, cut into strips and tiles."""

    rows: tuple[Phases, ...]
    columns: tuple[Phases, ...]

    def strips(self, numbers: Callable[[Strips], int], limit: int) -> Iterator[Strips]:
        """All strips, some at a time.

        Args:
            numbers: How many numbers are made for one strip of a kind.
            limit: How many may be made at a time; one strip is, however many they are.
        """
        for rows in self.rows:
            for columns in self.columns:
                for across in columns.tiles:
                    count = max(1, limit // numbers(Strips(rows, columns, across.part(0, 1))))
                    for first in range(0, across.count, count):
                        yield Strips(rows, columns, across.part(first, count))

    def padded_queries(self, x: Tensor) -> Tensor:
        """(B, H, W, h, d) with zeros at the bottom and on the right, where tiles reach beyond."""
        return _padded(
            x,
            *(
                max(phases.end(tiles.query_end) for phases in axis for tiles in phases.tiles)
                for axis in (self.rows, self.columns)
            ),
        )

    def padded_keys(self, x: Tensor) -> Tensor:
        """The same for windows."""
        return _padded(
            x,
            *(
                max(phases.end(phases.keys) for phases in axis)
                for axis in (self.rows, self.columns)
            ),
        )


def cut_map(size: Size, key_size: Size, kernel: Size, dilation: Size) -> MapCut:
    """Cut a map of keys, whose top left has queries.

    Args:
        size: (H, W) of the queries.
        key_size: (H', W') of the map.
        kernel: Neighbours on each axis.
        dilation: Distance between neighbours on each axis.
    """
    axes = zip(key_size, kernel, dilation, size, tile_size(kernel))
    return MapCut(*(axis_phases(*axis) for axis in axes))


def _padded(x: Tensor, height: int, width: int) -> Tensor:
    below, right = (max(0, n - side) for n, side in zip((height, width), x.shape[1:3]))
    return F.pad(x, (0, 0, 0, 0, 0, right, 0, below)) if below or right else x


def compact(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A contiguous copy in a type."""
    if x.dtype == dtype:
        return x.clone(memory_format=torch.contiguous_format)
    return torch.empty(x.shape, dtype=dtype, device=x.device).copy_(x)
