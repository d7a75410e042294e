"""Neighbourhood attention by plain operators, for maps of any size; derived in README.md beside it.

The tiles of `fused.py` are lists that depend on the size. Here they are arithmetic on positions, so
that an exported graph has a few dozen nodes, and every tile runs in one product.

A tiles of an axis, t queries of a tile, w keys of its window.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmeffvit.ops.precision import in_full_precision

#: queries of a tile on an axis
_TILE = 8


class _Axis(NamedTuple):
    """Tiles of one axis.

    Attributes:
        queries: Positions (A t); those beyond the last query repeat it.
        keys: Positions (A w).
        allowed: (A, t, w) bool: which keys of the window a query attends to.
        relative: (A, t, w) rank of the key minus that of the query, plus kernel - 1.
        places: (queries of the axis): where each of them is among A t.
    """

    queries: Tensor
    keys: Tensor
    allowed: Tensor
    relative: Tensor
    places: Tensor


def _axis(length: int, queries: int, kernel: int, dilation: int, device: torch.device) -> _Axis:
    # of all that comes below, the axes are phases, tiles, queries, keys
    tiles = ((queries + dilation - 1) // dilation + _TILE - 1) // _TILE
    if isinstance(tiles, torch.SymInt):
        # a graph that was traced with several tiles refuses one: the second may be empty
        tiles = torch.sym_max(tiles, 2)
    phase = torch.arange(dilation, device=device).view(-1, 1, 1, 1)
    start = torch.arange(tiles, device=device).view(1, -1, 1, 1) * _TILE
    last_window = (length - phase + dilation - 1) // dilation - kernel
    rank = start + torch.arange(_TILE, device=device).view(1, 1, -1, 1)
    first = torch.minimum((rank - (kernel - 1) // 2).clamp_min(0), last_window)
    key = first[:, :, :1] + torch.arange(_TILE + kernel - 1, device=device)
    allowed = (key >= first) & (key < first + kernel)
    relative = (key - rank + kernel - 1).clamp(0, 2 * kernel - 2)

    position = torch.arange(queries, device=device)
    own_rank = position // dilation
    own_tile = own_rank // _TILE
    places = ((position - own_rank * dilation) * tiles + own_tile) * _TILE
    return _Axis(
        (rank * dilation + phase).clamp_max(queries - 1).flatten(),
        (key * dilation + phase).clamp_max(length - 1).flatten(),
        allowed.flatten(0, 1),
        relative.flatten(0, 1),
        places + own_rank - own_tile * _TILE,
    )


@in_full_precision
def neighbourhood_attention_tiled(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.neighbourhood_attention`."""
    rows, columns = (
        _axis(*numbers, q.device)
        for numbers in zip(k.shape[1:3], q.shape[1:3], kernel, dilation, strict=True)
    )
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    window = [_TILE + size - 1 for size in kernel]
    queries = _cut(q * scale, rows.queries, columns.queries, (_TILE, _TILE))
    keys, values = (_cut(t, rows.keys, columns.keys, window) for t in (k, v))
    allowed = _outer(rows.allowed) & _outer(columns.allowed, inner=True)
    logits = (queries.flatten(4, 5) @ keys.flatten(4, 5).mT).unflatten(5, window)
    logits = logits.unflatten(4, (_TILE, _TILE))
    if bias is not None:
        logits = logits + bias[:, _outer(rows.relative), _outer(columns.relative, inner=True)]
    weights = logits.masked_fill(~allowed, -torch.inf).flatten(6, 7).softmax(-1)
    out = (weights.flatten(4, 5) @ values.flatten(4, 5)).unflatten(4, (_TILE, _TILE))
    # (B, h, A, A', t, t', d) -> (B, A t, A' t', h, d)
    out = out.permute(0, 2, 4, 3, 5, 1, 6).flatten(3, 4).flatten(1, 2)
    return out.index_select(1, rows.places).index_select(2, columns.places)


def _cut(x: Tensor, rows: Tensor, columns: Tensor, size: list[int] | tuple[int, int]) -> Tensor:
    """A map (B, H, W, h, d) to rectangles (B, h, A, A', *size, d)."""
    x = x.index_select(1, rows).index_select(2, columns)
    x = x.unflatten(2, (-1, size[1])).unflatten(1, (-1, size[0]))
    return x.permute(0, 5, 1, 3, 2, 4, 6)


def _outer(of_axis: Tensor, inner: bool = False) -> Tensor:
    """(A, t, w) of rows, or of columns, among (A, A', t, t', w, w')."""
    if inner:
        return of_axis[None, :, None, :, None, :]
    return of_axis[:, None, :, None, :, None]
