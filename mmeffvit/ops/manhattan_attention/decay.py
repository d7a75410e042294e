"""How much the logits fall with distance: rates per head, and the masks made of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmeffvit.ops.chunked_attention import ConstantMask
from mmeffvit.ops.tables import build_table, cached_table


def decay_rates(num_heads: int, init: float = 2.0, span: float = 4.0) -> tuple[float, ...]:
    """Logarithm of the factor per pixel of distance, ``log(1 - 2^-(init + span * i / h))``.

    Later heads look farther; the largest exponent stays below ``init + span``.

    Args:
        num_heads: Heads h, i = 0..h-1.
        init: Exponent of the first head.
        span: Range of the exponents.

    Returns:
        h negative numbers.

    Raises:
        ValueError: An exponent is not positive: its factor would be no decay.

    >>> [round(rate, 3) for rate in decay_rates(2)]
    [-0.288, -0.065]
    """
    exponents = [init + span * head / num_heads for head in range(num_heads)]
    if min(exponents) <= 0:
        raise ValueError(
            f"decay exponents must be positive, got init={init} and span={span} for {num_heads} "
            f"heads, which make {exponents}"
        )
    return tuple(math.log1p(-(2.0**-exponent)) for exponent in exponents)


@cached_table(maxsize=64)
def _mask(size: int, rates: tuple[float, ...], device: torch.device) -> Tensor:
    positions = torch.arange(size, device=device, dtype=torch.float32)
    distances = (positions[:, None] - positions).abs()
    return torch.stack([rate * distances for rate in rates])


def _positions(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    tokens = torch.arange(height * width, device=device)
    return tokens // width, tokens % width


class ManhattanDecay(ConstantMask):
    """What distance takes off the logits on a map, as float32 masks made when they are asked for.

    The masks along one axis are cached by size, rates and device; the mask of all pairs of pixels,
    quadratic in the area, lives as long as this object.

    Args:
        height: Rows H of the map.
        width: Columns W of the map.
        rates: One negative number per head, such as those of :func:`decay_rates`.
        device: Where the masks live.
    """

    def __init__(
        self,
        height: int,
        width: int,
        rates: Sequence[float],
        device: torch.device | str = "cpu",
    ):
        self.height = height
        self.width = width
        self.rates = tuple(rates)
        self.device = torch.device(device)
        self._full: dict[torch.dtype, Tensor] = {}

    @property
    def along_height(self) -> Tensor:
        """(h, H, H): ``rate * |y - y'|``."""
        return _mask(self.height, self.rates, self.device)

    @property
    def along_width(self) -> Tensor:
        """(h, W, W): ``rate * |x - x'|``."""
        return _mask(self.width, self.rates, self.device)

    def full(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """(h, L, L): ``rate * (|y - y'| + |x - x'|)`` between all tokens, in row-major order."""
        if torch.compiler.is_compiling():
            return self._build_full(dtype)
        if dtype not in self._full:
            self._full[dtype] = build_table(self._build_full, dtype)
        return self._full[dtype]

    def _build_full(self, dtype: torch.dtype) -> Tensor:
        rows = self.along_height[:, :, None, :, None]
        columns = self.along_width[:, None, :, None, :]
        return (rows + columns).flatten(3, 4).flatten(1, 2).to(dtype)

    @functools.cached_property
    def _positions(self) -> tuple[Tensor, Tensor]:
        """Row and column of every token, (L,) each."""
        return build_table(_positions, self.height, self.width, self.device)

    def write(self, out: Tensor, start: int, heads: slice = slice(None)) -> None:
        """Write some rows of `full` without making the others.

        Args:
            out: (h', B, n, L) buffer; the masks of queries start to start + n are the same for each
                of the B samples. Sums are made in float32 and rounded to the buffer's type.
            start: First query.
            heads: The h' heads.
        """
        y, x = (p[start : start + out.shape[2]] for p in self._positions)
        rows = self.along_height[heads][:, None, y].expand(-1, out.shape[1], -1, -1)
        columns = self.along_width[heads][:, None, x]
        out = out.unflatten(-1, (self.height, self.width))
        torch.add(rows[..., None], columns[..., None, :], out=out)
