"""Features of voxels from any number of points each (dynamic voxelisation, arXiv 1910.06528)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.ops.points import Cells, check_finite, check_voxels, dynamic_scatter, voxel_groups
from mmeffvit.registry import MODELS


class VFELayer(nn.Module):
    """Linear layer, batch norm and ReLU, per point."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.norm = nn.BatchNorm1d(out_channels, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.linear(x)))


@MODELS.register_module()
class DynamicVFE(BaseModule):
    """Voxel features by layers per point and the maximum over each voxel.

    A point has its own channels, its offset from the mean of the points of its voxel, and from the
    centre of the voxel. Each layer after the first also sees the maximum over the voxel. It fits
    mmdet3d's `DynamicVoxelNet` as its ``voxel_encoder``.

    Args:
        in_channels: Channels of the points, x, y and z first.
        feat_channels: Channels of the layers.
        voxel_size: Sides of a voxel along x, y, z, in metres.
        point_cloud_range: Lowest x, y, z, then highest.
        with_cluster_center: Add the offsets from the mean.
        with_voxel_center: Add the offsets from the centre.
        init_cfg: Of mmengine.

    Raises:
        ValueError: There is no layer, or points have less than three channels.
    """

    def __init__(
        self,
        in_channels: int = 5,
        feat_channels: Sequence[int] = (64, 128),
        voxel_size: Sequence[float] = (0.32, 0.32, 6),
        point_cloud_range: Sequence[float] = (-74.88, -74.88, -2, 74.88, 74.88, 4),
        with_cluster_center: bool = True,
        with_voxel_center: bool = True,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        if in_channels < 3 or not feat_channels:
            raise ValueError(
                "DynamicVFE needs points with x, y and z, and at least one layer, got "
                f"in_channels={in_channels} and feat_channels={tuple(feat_channels)}"
            )
        self.in_channels = in_channels
        self.out_channels = feat_channels[-1]
        self.voxel_size = tuple(voxel_size)
        self.point_cloud_range = tuple(point_cloud_range)
        self.with_cluster_center = with_cluster_center
        self.with_voxel_center = with_voxel_center
        channels = in_channels + 3 * (with_cluster_center + with_voxel_center)
        self.vfe_layers = nn.ModuleList()
        for width in feat_channels:
            self.vfe_layers.append(VFELayer(channels, width))
            # the next layer sees the point and the maximum of its voxel
            channels = 2 * width

    def forward(self, voxels: Tensor, coors: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the voxels that hold points.

        Args:
            voxels: (N, C_in) points, x, y and z in metres first.
            coors: (N, 4) integers, (batch, z, y, x) of the voxel of each point; a point with a
                negative entry is left out.

        Returns:
            (M, C) features, and (M, 4) int64 (batch, z, y, x) in lexicographic order.

        Raises:
            ValueError: Shapes are others, or numbers are not finite.
        """
        check_voxels(voxels, coors, self.in_channels, "DynamicVFE", "point", "(batch, z, y, x)")
        inside = (coors >= 0).all(1)
        points, coors = voxels[inside], coors[inside]
        check_finite(points, "points")
        groups = voxel_groups(coors)
        x = self.decorate(points, coors, groups)
        for layer in self.vfe_layers[:-1]:
            x = layer(x)
            highest, _ = dynamic_scatter(x, coors, "max", groups)
            x = torch.cat((x, highest[groups.inverse]), dim=1)
        x, _ = dynamic_scatter(self.vfe_layers[-1](x), coors, "max", groups)
        return x, groups.rows

    def decorate(self, points: Tensor, coors: Tensor, groups: Cells) -> Tensor:
        """Points with their offsets from the mean and from the centre of their voxel."""
        xyz, parts = points[:, :3], [points]
        if self.with_cluster_center:
            mean, _ = dynamic_scatter(xyz, coors, "mean", groups)
            parts.append(xyz - mean[groups.inverse])
        if self.with_voxel_center:
            size = xyz.new_tensor(self.voxel_size)
            first = xyz.new_tensor(self.point_cloud_range[:3]) + size / 2
            parts.append(xyz - (coors[:, 1:].flip(1).to(xyz.dtype) * size + first))
        return torch.cat(parts, dim=1)
