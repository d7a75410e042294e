"""What the modules of one resolution share: positions, and structures that depend on them only."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmeffvit.layers.context import Context
from mmeffvit.ops import rotary_table_of_positions
from mmeffvit.ops.points import (
    RelativeWindows,
    knn,
    offset_to_batch,
    segment_reduce,
    sparse_neighbours,
)

#: planes of ConDaFormer's windows, in the order of the heads: axes that are one cell thin
THIN_AXES = (2, 1, 0)  # xy, xz, yz


@dataclass
class PointLevel(Context):
    """Points of one resolution, sample after sample; structures are made once, when first asked.

    Attributes:
        xyz: (N, 3) positions, in the finest voxels.
        cells: (N, 4) int64 (batch, x, y, z), in cells of this level, each once.
        offset: (B) ends of the samples.
        counts: (N) points of the finest level that each row stands for.
        stride: Side of a cell of this level, in the finest voxels.
    """

    xyz: Tensor
    cells: Tensor
    offset: Tensor
    counts: Tensor
    stride: int = 1

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def batch(self) -> Tensor:
        """(N) sample of every point."""
        return self.cells[:, 0]

    def structure(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make()`` returns, made once for this level and key, without gradients."""
        return super().structure(key, torch.no_grad()(make))

    @property
    def neighbours(self) -> Tensor:
        """(N, 27) table of `mmeffvit.ops.points.sparse_neighbours`."""
        return self.structure("neighbours", lambda: sparse_neighbours(self.cells))

    @property
    def samples(self) -> list[slice]:
        """Rows of every sample."""

        def make() -> list[slice]:
            ends = self.offset.tolist()
            return [slice(start, end) for start, end in zip([0, *ends], ends)]

        return self.structure("samples", make)

    def rotary_3d(self, head_dim: int, base: float = 100.0) -> Tensor:
        """(N, d/2, 2) table of `mmeffvit.ops.rotary_table_of_positions`, in cells of this level."""

        def make() -> Tensor:
            return rotary_table_of_positions(self.xyz.double() / self.stride, head_dim, base)

        return self.structure(("rotary_3d", head_dim, base), make)

    def no_rotation(self, head_dim: int) -> Tensor:
        """(N, d/2, 2) table that leaves everything where it is."""

        def make() -> Tensor:
            return self.xyz.new_tensor([1.0, 0.0]).repeat(len(self), head_dim // 2, 1)

        return self.structure(("no_rotation", head_dim), make)

    @property
    def places(self) -> Tensor:
        """(N, 3) positions in the cube around the sample, -1 to 1, its middle at 0."""

        def make() -> Tensor:
            low, high = (
                segment_reduce(self.xyz, self.batch, len(self.offset), end)
                for end in ("min", "max")
            )
            # one point, or all in one cell: no side is shorter than a cell
            half = (high - low).amax(1, keepdim=True).clamp_min(self.stride) / 2
            return (self.xyz - ((low + high) / 2)[self.batch]) / half[self.batch]

        return self.structure("places", make)

    def nearest(self, coarse: PointLevel, k: int = 3) -> tuple[Tensor, Tensor]:
        """Rows and distances (N, k) of the nearest points of a coarser level."""
        return knn(coarse.xyz, coarse.offset, self.xyz, self.offset, k)

    def plane_windows(
        self, window_size: int, quant_size: float, shifted: bool, per_sample: bool = False
    ) -> tuple[RelativeWindows, RelativeWindows, RelativeWindows]:
        """Windows in the planes xy, xz and yz, one cell thick.

        Args:
            window_size: Side in cells of this level.
            quant_size: Length of a relative-position bin, in cells.
            shifted: Move windows by half their sides, across the plane too.
            per_sample: Start windows at the corner of each sample, not of the whole batch.
        """

        def make() -> tuple[RelativeWindows, ...]:
            xyz = self.xyz / self.stride
            origin = None
            if per_sample:
                lowest = xyz.new_zeros(len(self.offset), 3)
                index = self.batch[:, None].expand_as(xyz)
                lowest.scatter_reduce_(0, index, xyz, "amin", include_self=False)
                origin = lowest[offset_to_batch(self.offset)]
            planes = []
            for thin in THIN_AXES:
                size = [float(window_size)] * 3
                size[thin] = 1.0
                shift = [side / 2 if shifted else 0.0 for side in size]
                num_bins = relative_bins(window_size, quant_size)
                planes.append(
                    RelativeWindows.of(xyz, self.batch, size, quant_size, num_bins, shift, origin)
                )
            return tuple(planes)

        key = ("plane_windows", window_size, quant_size, shifted, per_sample)
        return self.structure(key, make)


def relative_bins(window_size: float, quant_size: float) -> int:
    """Bins G along a window: tables have 2G - 1 rows."""
    return int((window_size + 1e-4) / quant_size)
