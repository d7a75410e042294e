"""Rotary position tables and their application to adjacent channel pairs.

A table holds unit complex numbers ``cos + i sin``, stored as real pairs in float32 whatever the
compute type: angles grow with the map, and half precision cannot tell large ones apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops.precision import in_full
from mmeffvit.ops.tables import cached_table


def _frequencies(count: int, base: float, device: torch.device | str) -> Tensor:
    """``base^(-t/(count-1))`` for t = 0..count-1: both ends included, a single one is just 1."""
    if count == 1:
        return torch.ones(1, device=device, dtype=torch.float64)
    exponent = torch.linspace(0, 1, count, device=device, dtype=torch.float64)
    return base**-exponent


def _table(angles: Tensor) -> Tensor:
    return torch.stack((angles.cos(), angles.sin()), dim=-1).float()


def rotary_table_of_positions(positions: Tensor, head_dim: int, base: float = 100.0) -> Tensor:
    """Rotary table of tokens anywhere in D dimensions: the channel pairs are divided over the axes.

    Axis a has n_a pairs, d/2 in all, the first axes one more where they do not divide. The token at
    p is rotated by the angles ``p_a * w_t`` in the pairs of axis a, with
    ``w_t = base^(-t / (n_a - 1))``.
    With D = 2 and integers it is the table of a map. Products of rotated queries and keys depend on
    differences of positions alone.

    Args:
        positions: (L, D) coordinates, of any type; angles are made in float64.
        head_dim: Channels d of one head, even and at least 2 D.
        base: Ratio of the largest to the smallest frequency. 100 lets the slowest pair turn once in
            some 600 units: scenes are hundreds of cells wide, and an axis has few pairs.

    Returns:
        (L, d/2, 2) float32: cosine and sine of every channel pair.

    Raises:
        ValueError: `positions` are not (L, D), or there are fewer pairs than axes.
    """
    if positions.dim() != 2:
        raise ValueError(f"positions must be (L, D), got the shape {tuple(positions.shape)}")
    axes = positions.shape[1]
    if head_dim % 2 or head_dim < 2 * axes:
        raise ValueError(
            f"a {axes}-D rotary table needs a head dimension that is even and at least {2 * axes}, "
            f"got {head_dim}; change embed_dims or num_heads"
        )
    pairs, more = divmod(head_dim // 2, axes)
    columns = positions.double().unbind(1)
    angles = [
        column[:, None] * _frequencies(pairs + (axis < more), base, positions.device)
        for axis, column in enumerate(columns)
    ]
    return _table(torch.cat(angles, dim=1))


@cached_table(maxsize=32)
def _table_2d(height: int, width: int, head_dim: int, device: torch.device, base: float) -> Tensor:
    rows = torch.arange(height, device=device, dtype=torch.float64)
    columns = torch.arange(width, device=device, dtype=torch.float64)
    return rotary_table_of_positions(torch.cartesian_prod(rows, columns), head_dim, base)


def rotary_table_2d(
    height: int,
    width: int,
    head_dim: int,
    device: torch.device | str = "cpu",
    base: float = 10000.0,
) -> Tensor:
    """Rotary table of a map: a head's first half encodes the row, its second the column.

    The token at (y, x), in row-major order, is rotated by the angles ``y * w_t`` in its first
    ``d/4`` channel pairs and by ``x * w_t`` in the others, with ``w_t = base^(-t / (d/4 - 1))``.
    Used by SecViT, SSViT and RAVLT. Tables are cached by size and device.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        head_dim: Channels d of one head, a multiple of 4.
        device: Where the table lives.
        base: Ratio of the largest to the smallest frequency.

    Returns:
        (H*W, d/2, 2) float32: cosine and sine of every channel pair.

    Raises:
        ValueError: ``head_dim`` is not a positive multiple of 4.
    """
    if head_dim <= 0 or head_dim % 4:
        raise ValueError(
            f"a 2-D rotary table needs a head dimension that is a multiple of 4, got {head_dim}; "
            "change embed_dims or num_heads"
        )
    return _table_2d(height, width, head_dim, torch.device(device), base)


@cached_table(maxsize=32)
def _table_1d(num_tokens: int, head_dim: int, device: torch.device, base: float) -> Tensor:
    positions = torch.arange(num_tokens, device=device, dtype=torch.float64)
    return rotary_table_of_positions(positions[:, None], head_dim, base)


def rotary_table_1d(
    num_tokens: int,
    head_dim: int,
    device: torch.device | str = "cpu",
    base: float = 10000.0,
) -> Tensor:
    """Rotary table of a sequence; a map counts its pixels row by row, ``p = y * W + x``.

    Token p is rotated by the angles ``p * w_t`` in its ``d/2`` channel pairs, with
    ``w_t = base^(-t / (d/2 - 1))``: angles grow with the area, and are made in float64. Used by
    RMT. Tables are cached by size and device.

    Args:
        num_tokens: Tokens L.
        head_dim: Channels d of one head, even.
        device: Where the table lives.
        base: Ratio of the largest to the smallest frequency.

    Returns:
        (L, d/2, 2) float32: cosine and sine of every channel pair.

    Raises:
        ValueError: ``head_dim`` is not a positive even number.
    """
    if head_dim <= 0 or head_dim % 2:
        raise ValueError(
            f"a 1-D rotary table needs an even head dimension, got {head_dim}; change embed_dims "
            "or num_heads"
        )
    return _table_1d(num_tokens, head_dim, torch.device(device), base)


def apply_rotary(x: Tensor, table: Tensor) -> Tensor:
    """Rotate adjacent channel pairs: ``(u0 cos - u1 sin, u1 cos + u0 sin)``.

    Computed in float32 at least and returned in the type of ``x``.

    Args:
        x: (B, L, ..., d) tokens.
        table: (L, d/2, 2) from :func:`rotary_table_1d`, :func:`rotary_table_2d` or
            :func:`rotary_table_of_positions`.

    Returns:
        Same shape and type as ``x``.
    """
    shape = (table.shape[0],) + (1,) * (x.dim() - 3) + tuple(table.shape[1:])
    pairs = in_full(x.unflatten(-1, (-1, 2)))
    table = table.reshape(shape).to(pairs.dtype)
    if torch.compiler.is_compiling() or x.device.type == "meta":
        first, second = pairs.unbind(-1)
        cos, sin = table.unbind(-1)
        rotated = torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-1)
    else:
        # one complex multiplication is several times faster than strided real ones
        if pairs.stride(-1) != 1 or any(stride % 2 for stride in pairs.stride()[:-1]):
            pairs = pairs.contiguous()
        rotated = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(table))
    return rotated.flatten(-2).to(x.dtype)
