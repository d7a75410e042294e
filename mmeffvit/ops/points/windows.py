"""Windows over points: which points share one, where in it they are, and padded layouts."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmeffvit.ops.points.cells import Cells, grid_cluster
from mmeffvit.ops.points.segments import segment_places


def partition_windows(
    xyz: Tensor,
    batch: Tensor,
    window_size: Sequence[float],
    shift: Sequence[float] = (0.0, 0.0, 0.0),
    origin: Tensor | None = None,
) -> Cells:
    """Group the points of a sample into boxes, ordered by (batch, z, y, x).

    Args:
        xyz: (N, 3) coordinates.
        batch: (N) int64, sample of every point.
        window_size: Sides of a window along x, y, z, in the unit of the coordinates.
        shift: Added to the coordinates.
        origin: (3) coordinates of a corner of a window before the shift, or (N, 3) for every point;
            None takes the smallest coordinates of all samples together, as ConDaFormer does.

    Returns:
        Groups: `inverse` the window of every point, `counts` the points of every window, `rows`
        (batch, x, y, z) of the windows.
    """
    if origin is None:
        origin = xyz.amin(0) if len(xyz) else xyz.new_zeros(3)
    shift = xyz.new_tensor(shift)
    return grid_cluster(xyz + shift - origin, xyz.new_tensor(window_size), batch)


@dataclass(frozen=True)
class PaddedWindows:
    """A layout in which windows of about equal size are padded to the same size.

    Sizes are rounded up to one of a few (four per doubling), so that at most a fifth of a window is
    padding, and all windows of one size are one batch of matrices.

    Attributes:
        slots: (P) int64, point of every slot, or N where there is padding.
        slot_of_point: (N) int64.
        buckets: ``(number of windows, slots of each)``, in the order of the slots.
    """

    slots: Tensor
    slot_of_point: Tensor
    buckets: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, window: Tensor, counts: Tensor) -> PaddedWindows:
        """Layout of windows.

        Args:
            window: (N) int64, window of every point.
            counts: (M) int64, points of every window, none empty.
        """
        device, num_points = window.device, len(window)
        largest = int(counts.max()) if len(counts) else 0
        ladder = torch.tensor(_sizes(largest), dtype=torch.int64, device=device)
        bucket = torch.searchsorted(ladder, counts)
        by_bucket = bucket.argsort(stable=True)
        padded = ladder[bucket[by_bucket]]
        first_slot = torch.empty_like(padded)
        first_slot[by_bucket] = padded.cumsum(0) - padded
        order = window.argsort(stable=True)
        sorted_window, place = segment_places(counts)
        slot_of_point = torch.empty_like(order)
        slot_of_point[order] = first_slot[sorted_window] + place
        slots = torch.full((int(padded.sum()),), num_points, device=device)
        slots[slot_of_point] = torch.arange(num_points, device=device)
        windows = torch.bincount(bucket, minlength=len(ladder)).tolist()
        buckets = tuple((n, size) for n, size in zip(windows, _sizes(largest)) if n)
        return cls(slots, slot_of_point, buckets)

    def gather(self, x: Tensor) -> Tensor:
        """Rows (N, ...) of points to rows (P, ...) of slots, zeros for padding."""
        return _ToSlots.apply(x, self.slots, self.slot_of_point)

    def scatter(self, x: Tensor) -> Tensor:
        """Rows (P, ...) of slots back to rows (N, ...) of points."""
        return _ToPoints.apply(x, self.slots, self.slot_of_point)


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
        query, place = segment_places(self.counts[window])
        return order[query], order[first[window[query]] + place]


def _sizes(largest: int) -> list[int]:
    """1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20 ... up to the first that is large enough."""
    sizes, size = [], 0
    while size < largest:
        size += 1 << max(0, size.bit_length() - 3)
        sizes.append(size)
    return sizes


def _padded_rows(x: Tensor, slots: Tensor) -> Tensor:
    return torch.cat((x, x.new_zeros(1, *x.shape[1:]))).index_select(0, slots)


class _ToSlots(torch.autograd.Function):
    """Every point has one slot: the gradient of this gather is a gather too, not a scatter."""

    @staticmethod
    def forward(ctx, x: Tensor, slots: Tensor, slot_of_point: Tensor) -> Tensor:
        ctx.save_for_backward(slots, slot_of_point)
        return _padded_rows(x, slots)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _ToPoints.apply(grad.contiguous(), *ctx.saved_tensors), None, None


class _ToPoints(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, slots: Tensor, slot_of_point: Tensor) -> Tensor:
        ctx.save_for_backward(slots, slot_of_point)
        return x.index_select(0, slot_of_point)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _ToSlots.apply(grad.contiguous(), *ctx.saved_tensors), None, None
