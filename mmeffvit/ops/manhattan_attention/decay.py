"""How much the logits fall with distance: rates per head, and the masks made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

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


class ManhattanDecay:
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
        self._bands: dict[tuple, BandMasks] = {}

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

    def bands(self, rows: int, multiple: int, dtype: torch.dtype) -> BandMasks:
        """The masks of bands of `rows` rows of queries, all of them in one table.

        Args:
            rows: Rows of a band, the last band may have fewer.
            multiple: The rows of keys are filled up to a multiple of so many, with ``-inf``.
            dtype: Of the masks.
        """
        key = (rows, multiple, dtype)
        if key not in self._bands:
            self._bands[key] = build_table(self._build_bands, *key)
        return self._bands[key]

    def _build_bands(self, rows: int, multiple: int, dtype: torch.dtype) -> BandMasks:
        last = (self.height - 1) // rows * rows
        # rows of keys, counted so that `last` is the first row of queries
        keys = torch.arange(last + self.height, device=self.device)
        down = (keys - last - torch.arange(rows, device=self.device)[:, None]).abs()
        # (h, rows, W, keys, W)
        along_height = (
            torch.tensor(self.rates, device=self.device)[:, None, None] * down
        )[:, :, None, :, None]  # fmt: skip
        missing = -self.width % multiple
        along_width = F.pad(self.along_width, (0, missing), value=float("-inf"))
        table = (along_height + along_width[:, None, :, None]).to(dtype)
        return BandMasks(table.flatten(3), rows, self.height, self.width + missing)


@dataclass(frozen=True)
class BandMasks:
    """Masks of bands of rows of queries, against all keys, as views of one table.

    Between two rows of a map only their distance counts. So the mask of a band is that of another
    band, moved along the axis of the keys.

    Attributes:
        table: (h, rows, W, K * key_width), the rows of keys from as far above a band as there are
            on the map to as far below.
        rows: Rows of queries in a band.
        height: Rows of the map.
        key_width: Columns of the keys, those included that are not there.
    """

    table: Tensor
    rows: int
    height: int
    key_width: int

    def view(self, first: int, count: int, rows: int) -> Tensor:
        """(count, h, rows * W, height * key_width): masks of bands, from the last one upwards.

        Args:
            first: The first band, counted from the last one on the map.
            count: Bands.
            rows: Rows of each, at most `self.rows`.
        """
        heads, _, width, length = self.table.shape
        step = self.rows * self.key_width
        return self.table.as_strided(
            (count, heads, rows * width, self.height * self.key_width),
            (step, self.table.stride(0), length, 1),
            first * step,
        )
