"""Some heads, samples and queries at a time, and the memory for their weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mmeffvit.ops import chunked_attention as chunks


class Piece(NamedTuple):
    """Heads, samples, and rows and columns of reversed queries that are attended from at a time."""

    heads: slice
    samples: slice
    rows: slice
    columns: slice

    def of_table(self, table: Tensor) -> Tensor:
        """(h', 1, rows, columns, H, W) of a table by reversed query and key."""
        return table[self.heads, None, self.rows, self.columns]

    def of_queries(self, x: Tensor, width: int) -> Tensor:
        """(h' B', n, ...) of (h, B, L, ...), a view."""
        # all rows, whole rows, or a part of one: the places of queries are one range
        first = self.rows.start * width + self.columns.start
        last = (self.rows.stop - 1) * width + self.columns.stop
        x = x[self.heads, self.samples, first:last]
        return x.view(-1, *x.shape[2:])

    def of_keys(self, x: Tensor) -> Tensor:
        """(h' B', L, ...) of (h, B, L, ...), a view."""
        x = x[self.heads, self.samples]
        return x.view(-1, *x.shape[2:])


def cut_queries(heads: int, batch: int, size: tuple[int, int], device: torch.device) -> list[Piece]:
    """All queries, in pieces of about as many weights as are made at a time.

    Of large maps a piece is rows of one head and sample, or a part of a row; of small ones it is
    several samples, and several heads of all samples.
    """
    height, width = size
    queries = chunks.queries_per_chunk(device, height * width)
    maps = queries // (height * width)
    samples = min(batch, max(1, maps))
    group = min(heads, max(1, maps // batch))
    rows = min(height, max(1, queries // width))
    columns = min(width, queries)
    return [
        Piece(*parts)
        for head in _ranges(heads, group)
        for sample in _ranges(batch, samples)
        for row in _ranges(height, rows)
        for parts in ((head, sample, row, column) for column in _ranges(width, columns))
    ]


def _ranges(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


class Memory:
    """Buffers for the weights of a piece, that are used again by the next.

    Args:
        count: How many.
        pieces: All pieces.
        size: Rows and columns of the map.
        like: Of whose type they are.
    """

    def __init__(self, count: int, pieces: list[Piece], size: tuple[int, int], like: Tensor):
        self.size = size
        largest = max(self._shape(piece).numel() for piece in pieces)
        self.memory = [like.new_empty(largest) for _ in range(count)]

    def _shape(self, piece: Piece) -> torch.Size:
        return torch.Size((*(part.stop - part.start for part in piece), *self.size))

    def of(self, piece: Piece) -> list[Tensor]:
        """Buffers of (h', B', rows, columns, H, W)."""
        shape = self._shape(piece)
        return [chunks.buffer(memory, *shape) for memory in self.memory]
