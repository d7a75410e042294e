"""Neighbourhood attention by `flex_attention`, on blocks of tokens that lie close together.

Derived in README.md beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmeffvit.ops import flex
from mmeffvit.ops.precision import in_full
from mmeffvit.ops.tables import cached_table

#: tokens in a block, as the kernels want them, and the rows of a block that are tried
_BLOCK = 128
_BLOCK_ROWS = (8, 16, 4, 32, 2, 64, 1, 128)

Size = tuple[int, int]


def refuses(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kernel: Size,
    dilation: Size,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> str | None:
    """Why `flex_attention` cannot run on these arguments, or None."""
    return flex.refuses(q, k, v, bias)


@dataclass(frozen=True, eq=False)
class _Axis:
    """The slots of an axis: its positions phase by phase, each phase filled up to whole tiles.

    A slot that is filled up has the last position of its phase, and is no key. What is compared has
    a number of its own for each phase and rank: ``phase * length + rank``.

    Attributes:
        positions: (tiles, t) positions.
        ranks: (tiles, t) number of a position's phase and rank.
        real: (tiles, t) bool, whether a slot was not filled up.
    """

    positions: Tensor
    ranks: Tensor
    real: Tensor

    @classmethod
    def of(cls, count: int, length: int, dilation: int, tile: int) -> _Axis:
        """Of the first `count` of `length` positions, in tiles of `tile`."""
        phases = torch.arange(min(dilation, count))[:, None]
        of_phase = (count - phases + dilation - 1) // dilation
        slots = (int(of_phase.max()) + tile - 1) // tile * tile
        rank = torch.arange(slots)
        # shorter phases may have a tile of filled slots alone: it is left out
        used = (rank // tile * tile < of_phase).flatten()
        last = torch.minimum(rank, of_phase - 1)
        parts = last * dilation + phases, phases * length + last, rank < of_phase
        return cls(*(part.flatten()[used].view(-1, tile) for part in parts))

    def windows(self, length: int, kernel: int, dilation: int) -> tuple[Tensor, Tensor]:
        """(tiles, t) first and last number of the keys that a query in a slot attends to."""
        phase, rank = self.ranks // length, self.ranks % length
        of_phase = (length - phase + dilation - 1) // dilation
        first = torch.minimum((rank - kernel // 2).clamp_min(0), of_phase - kernel)
        first = first + phase * length
        return first, first + kernel - 1


@dataclass(frozen=True, eq=False)
class _AxisBlocks:
    """Queries, keys and windows of an axis, and which tiles see something of each other.

    Attributes:
        queries: Slots of the queries.
        keys: Slots of the keys.
        first: (tiles, t) first number of a query's keys.
        last: (tiles, t) the last one.
        some: (query tiles, key tiles) bool, whether a query of one attends to a key of the other.
    """

    queries: _Axis
    keys: _Axis
    first: Tensor
    last: Tensor
    some: Tensor

    @classmethod
    def of(cls, count: int, length: int, kernel: int, dilation: int, tile: int) -> _AxisBlocks:
        queries = _Axis.of(count, length, dilation, tile)
        keys = _Axis.of(length, length, dilation, tile)
        first, last = queries.windows(length, kernel, dilation)
        number = torch.where(keys.real, keys.ranks, -1).flatten()
        seen = (first.flatten()[:, None] <= number) & (number <= last.flatten()[:, None])
        some = seen.view(*first.shape, *keys.ranks.shape).any(3).any(1)
        return cls(queries, keys, first, last, some)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """A map in the order of blocks.

    Attributes:
        queries: (Q,) row-major token of each slot of the queries.
        back: (L,) slot of each token.
        keys: (K,) token, of the map of the keys, of each slot of the keys.
        mask: `BlockMask` of the slots.
        of_query: (Q,) as a query, and
        of_key: (K,) as a key: the difference is the place in a flat table of distances.
        last_place: 0-dim, the last place in that table.
    """

    queries: Tensor
    back: Tensor
    keys: Tensor
    mask: Any
    of_query: Tensor
    of_key: Tensor
    last_place: Tensor


def _product(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """(tiles, t) numbers of both axes to those of the slots of a map, tile by tile, (n,) each."""
    shape = len(rows), len(columns), rows.shape[1], columns.shape[1]
    return (
        rows[:, None, :, None].expand(shape).flatten(),
        columns[None, :, None, :].expand(shape).flatten(),
    )


def _tokens(rows: _Axis, columns: _Axis, width: int) -> Tensor:
    y, x = _product(rows.positions, columns.positions)
    return y * width + x


@cached_table(maxsize=16)
def _blocks(
    size: Size, key_size: Size, kernel: Size, dilation: Size, device: torch.device
) -> _Blocks:
    """Blocks of 128 slots, of the sides with which the fewest blocks see one another."""
    choices = []
    for tile_rows in _BLOCK_ROWS:
        sides = tile_rows, _BLOCK // tile_rows
        axes = [_AxisBlocks.of(*axis) for axis in zip(size, key_size, kernel, dilation, sides)]
        choices.append((int(axes[0].some.sum()) * int(axes[1].some.sum()), axes))
    rows, columns = min(choices, key=lambda choice: choice[0])[1]

    queries = _tokens(rows.queries, columns.queries, size[1])
    real = torch.stack(_product(rows.queries.real, columns.queries.real)).all(0)
    back = torch.empty(size[0] * size[1], dtype=torch.int64)
    back[queries[real]] = real.nonzero().flatten()
    windows = [*_product(rows.first, columns.first), *_product(rows.last, columns.last)]
    numbers = _product(
        *(torch.where(axis.keys.real, axis.keys.ranks, -1) for axis in (rows, columns))
    )
    stride = 2 * kernel[1] - 1
    y, x = _product(rows.queries.ranks, columns.queries.ranks)
    of_query = (y - kernel[0] + 1) * stride + x - kernel[1] + 1
    y, x = _product(rows.keys.ranks, columns.keys.ranks)
    compared = [t.to(device, torch.int32) for t in (*windows, *numbers, of_query, y * stride + x)]
    # (rows of query blocks, columns, rows of key blocks, columns)
    some = rows.some[:, None, :, None] & columns.some[None, :, None, :]
    return _Blocks(
        queries.to(device),
        back.to(device),
        _tokens(rows.keys, columns.keys, key_size[1]).to(device),
        _block_mask(some.flatten(2, 3).flatten(0, 1).to(device), *compared[:6]),
        *compared[6:],
        torch.tensor((2 * kernel[0] - 1) * stride - 1, device=device, dtype=torch.int32),
    )


def _block_mask(
    some: Tensor,
    first_row: Tensor,
    first_column: Tensor,
    last_row: Tensor,
    last_column: Tensor,
    row: Tensor,
    column: Tensor,
) -> Any:
    """Of (query blocks, key blocks), the windows of queries, and rows and columns of keys.

    All pairs of tokens, of which `create_block_mask` makes its blocks, are never there.
    """
    from torch.nn.attention.flex_attention import BlockMask

    def mask_mod(sample, head, query, key):
        y, x = row[key], column[key]
        inside = (first_row[query] <= y) & (y <= last_row[query])
        return inside & (first_column[query] <= x) & (x <= last_column[query])

    some = some[None, None].to(torch.int32)
    order = some.argsort(dim=-1, descending=True, stable=True).to(torch.int32)
    return BlockMask.from_kv_blocks(
        some.sum(-1, dtype=torch.int32),
        order,
        BLOCK_SIZE=(_BLOCK, _BLOCK),
        mask_mod=mask_mod,
        seq_lengths=(len(first_row), len(row)),
    )


def neighbourhood_attention_flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kernel: Size,
    dilation: Size,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.neighbourhood_attention`."""
    size = tuple(q.shape[1:3])
    blocks = _blocks(size, tuple(k.shape[1:3]), tuple(kernel), tuple(dilation), q.device)
    score_mod = None
    if bias is not None:
        table = in_full(bias).flatten(1)
        of_query, of_key, last_place = blocks.of_query, blocks.of_key, blocks.last_place

        def score_mod(score, sample, head, query, key):
            # a block also has keys that are no neighbours: of them any place will do
            place = of_key[key] - of_query[query]
            place = torch.minimum(place.clamp_min(0), last_place)
            return score + table[head, place]

    q = q.flatten(1, 2).index_select(1, blocks.queries)
    k, v = (t.flatten(1, 2).index_select(1, blocks.keys) for t in (k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    out = flex.attend(q, k, v, scale, score_mod, blocks.mask)
    return out.index_select(1, blocks.back).unflatten(1, size)
