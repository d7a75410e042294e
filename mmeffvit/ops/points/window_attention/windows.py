"""Windows of points, and where in its window a point is."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmeffvit.ops.points.windows import PaddedWindows, partition_windows


@dataclass(frozen=True)
class RelativeWindows:
    """Who shares a window with whom, and positions in steps; made once, used by many blocks.

    Attributes:
        window: (N) int64, window of every point, ordered by (batch, z, y, x).
        counts: (M) int64, points of every window.
        bins: (N, 3) int64, steps from the corner of the window along x, y, z.
        spans: Largest number of bins along x, y, z; at most `num_bins`.
        num_bins: Bins G that tables are made for: 2G - 1 differences.
    """

    window: Tensor
    counts: Tensor
    bins: Tensor
    spans: tuple[int, int, int]
    num_bins: int

    @classmethod
    def of(
        cls,
        xyz: Tensor,
        batch: Tensor,
        window_size: Sequence[float],
        quant_size: float,
        num_bins: int,
        shift: Sequence[float] = (0.0, 0.0, 0.0),
        origin: Tensor | None = None,
    ) -> RelativeWindows:
        """Partition points; see `mmeffvit.ops.points.partition_windows`.

        Args:
            xyz: (N, 3) coordinates.
            batch: (N) int64, sample of every point.
            window_size: Sides along x, y, z, in the unit of the coordinates.
            quant_size: Length of a bin.
            num_bins: Bins G that the tables are made for.
            shift: Added to the coordinates.
            origin: Corner of a window; None takes the smallest coordinates of all samples.

        Raises:
            ValueError: A side has more bins than the tables.
        """
        spans = tuple(max(1, math.ceil((side - 1e-4) / quant_size)) for side in window_size)
        if max(spans) > num_bins:
            raise ValueError(
                f"windows {tuple(window_size)} have {spans} bins of {quant_size}, but the tables "
                f"are made for {num_bins}"
            )
        if origin is None:
            origin = xyz.amin(0) if len(xyz) else xyz.new_zeros(3)
        cells = partition_windows(xyz, batch, window_size, shift, origin)
        side, shift = xyz.new_tensor(window_size), xyz.new_tensor(shift)
        # the order of operations is the authors': bins at borders depend on rounding
        steps = ((xyz - origin + shift) % side / quant_size).floor().long()
        last = torch.tensor(spans, device=xyz.device) - 1
        bins = torch.minimum(steps.clamp_min(0), last)
        return cls(cells.inverse, cells.counts, bins, spans, num_bins)

    @functools.cached_property
    def layout(self) -> PaddedWindows:
        return PaddedWindows.of(self.window, self.counts)

    @functools.cached_property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Rows (T) of queries and of keys: all ordered pairs in a window, query after query."""
        order = self.window.argsort(stable=True)
        first = self.counts.cumsum(0) - self.counts
        window = self.window[order]
        per_query = self.counts[window]
        query = torch.repeat_interleave(per_query)
        start = per_query.cumsum(0) - per_query
        place = torch.arange(len(query), device=query.device) - start[query]
        return order[query], order[first[window[query]] + place]
