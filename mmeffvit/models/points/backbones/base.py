"""The contract of point backbones: the one mmdet3d's MinkUNet segmentors have."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.layers.points import PointLevel
from mmeffvit.models.network import Network
from mmeffvit.ops.points import batch_to_offset, check_finite, check_voxels, segment_reduce
from mmeffvit.ops.precision import in_full

#: how far a point may lie outside of its voxel, in voxels: float32 rounding of large scenes
_VOXEL_TOLERANCE = 0.05


class BasePointBackbone(Network):
    """A point backbone maps voxels (N, C_in) and their places (N, 4) to features (N, C_out).

    Rows keep their order. ``voxels[:, :3]`` are x, y, z in metres; ``coors`` are (batch, x, y, z)
    of a grid of `voxel_size`, with any origin per sample, and samples one after the other.

    Attributes:
        arch: The resolved dict.
        arch_name: The name that was given, or None.
        in_channels: Channels of the input, with the coordinates.
        voxel_size: Side of a voxel in metres.
        out_channels: Channels of the output.
    """

    voxel_size: float
    out_channels: int

    def finest_level(self, voxels: Tensor, coors: Tensor) -> PointLevel:
        """Check the input, and normalise positions per sample.

        Positions become voxels from the lowest corner of the sample, such that each point lies in
        its voxel.

        Args:
            voxels: (N, C_in).
            coors: (N, 4) integers, (batch, x, y, z).

        Raises:
            ValueError: Shapes or types are others, numbers are not finite, a sample is empty, or
                points do not lie in their voxels.
        """
        self._check_input(voxels, coors)
        batch, cells = coors[:, 0].long(), coors[:, 1:].long()
        offset = batch_to_offset(batch)
        empty = (offset.diff(prepend=offset.new_zeros(1)) == 0).nonzero().flatten().tolist()
        if empty:
            raise ValueError(
                f"samples {empty} have no points; leave empty samples out and number the others "
                "from 0 on"
            )

        def from_lowest(values: Tensor, low_of: Tensor) -> Tensor:
            return values - segment_reduce(low_of, batch, len(offset), "min")[batch]

        xyz = in_full(voxels[:, :3])
        xyz = from_lowest(xyz, xyz) / self.voxel_size
        cells = from_lowest(cells, cells)
        xyz = from_lowest(xyz, xyz - cells).float()
        outside = float((xyz - cells).amax())
        if outside > 1 + _VOXEL_TOLERANCE:
            raise ValueError(
                f"points lie up to {outside:.3g} voxels from the corner of their voxel: "
                "voxels[:, :3] must be metres, coors the cells of a grid of "
                f"voxel_size={self.voxel_size}, and the origin near enough for float32 (subtract "
                "the mean of a scene first, or give float64)"
            )
        ones = torch.ones_like(xyz[:, 0])
        return PointLevel(xyz, torch.cat((batch[:, None], cells), dim=1), offset, ones)

    def _check_input(self, voxels: Tensor, coors: Tensor) -> None:
        name, order, note = type(self).__name__, "(batch, x, y, z)", ", with x, y, z first"
        check_voxels(voxels, coors, self.in_channels, name, "voxel", order, note)
        if len(voxels) == 0:
            raise ValueError(f"{name} got no points")
        check_finite(voxels, "voxels")
