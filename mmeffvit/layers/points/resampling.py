"""From fine voxels to coarse ones, and back."""

from __future__ import annotations

from torch import Tensor, nn

from mmeffvit.layers.points.level import PointLevel
from mmeffvit.ops.points import batch_to_offset, grid_cluster, interpolate, segment_reduce


class GridPool(nn.Module):
    """Halve the resolution: the largest features, and the mean position, of every cell."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(in_channels, eps=1e-6)
        self.linear = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, x: Tensor, level: PointLevel) -> tuple[Tensor, PointLevel]:
        stride = 2 * level.stride
        # cells hold running means of positions, not the voxels that went in
        clusters = grid_cluster(level.xyz, float(stride), level.batch)
        size = len(clusters)
        x = segment_reduce(self.linear(self.norm(x)), clusters.inverse, size, "max")
        counts = segment_reduce(level.counts, clusters.inverse, size)
        weighted = level.xyz * level.counts[:, None]
        xyz = segment_reduce(weighted, clusters.inverse, size) / counts[:, None]
        offset = batch_to_offset(clusters.rows[:, 0])
        return x, PointLevel(xyz, clusters.rows, offset, counts, stride)


class Unpool(nn.Module):
    """Coarse features interpolated from the three nearest points, and those of the encoder."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(in_channels, eps=1e-6)
        self.proj = nn.Linear(in_channels, out_channels)
        self.skip_norm = nn.LayerNorm(skip_channels, eps=1e-6)
        self.skip_proj = nn.Linear(skip_channels, out_channels)

    def forward(self, x: Tensor, coarse: PointLevel, skip: Tensor, fine: PointLevel) -> Tensor:
        x = interpolate(self.proj(self.norm(x)), *fine.nearest(coarse))
        return self.skip_proj(self.skip_norm(skip)) + x
