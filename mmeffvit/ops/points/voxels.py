"""Points to voxels without a limit of points per voxel, and voxels to a bird's-eye-view map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmeffvit.errors import renamed_argument
from mmeffvit.ops.points.batches import check_finite
from mmeffvit.ops.points.cells import Cells, unique_rows
from mmeffvit.ops.points.segments import segment_reduce


def grid_size(voxel_size: Sequence[float], point_cloud_range: Sequence[float]) -> tuple[int, ...]:
    """Voxels along x, y and z.

    >>> grid_size((0.32, 0.32, 6), (-74.88, -74.88, -2, 74.88, 74.88, 4))
    (468, 468, 1)
    """
    low, high = point_cloud_range[:3], point_cloud_range[3:]
    if len(voxel_size) != 3 or len(high) != 3 or min(voxel_size) <= 0:
        raise ValueError(
            "a grid needs three positive voxel sides and a range (x, y, z, x, y, z), got "
            f"{tuple(voxel_size)} and {tuple(point_cloud_range)}"
        )
    sizes = tuple(round((b - a) / side) for a, b, side in zip(low, high, voxel_size))
    if min(sizes) < 1:
        raise ValueError(f"the range {tuple(point_cloud_range)} holds no voxel {tuple(voxel_size)}")
    return sizes


def dynamic_voxelize(
    points: Tensor,
    voxel_size: Sequence[float],
    point_cloud_range: Sequence[float],
    out_of_range: str = "mark",
) -> Tensor:
    """Voxel of every point, ``floor((p - low) / size)`` in float32.

    Args:
        points: (N, 3+) whose first columns are x, y, z.
        voxel_size: Sides along x, y, z.
        point_cloud_range: Lowest x, y, z, then highest.
        out_of_range: 'mark' gives points outside of the range the voxel (-1, -1, -1), as mmcv does;
            'clamp' the nearest voxel, as FlatFormer does.

    Returns:
        (N, 3) int32 in the order (z, y, x).

    Raises:
        ValueError: Coordinates are not finite, or an argument is not possible.
    """
    if out_of_range not in ("mark", "clamp"):
        raise ValueError(f"out_of_range must be 'mark' or 'clamp', got '{out_of_range}'")
    if points.dim() != 2 or points.shape[1] < 3:
        raise ValueError(f"points must be (N, 3+), got the shape {tuple(points.shape)}")
    sizes = torch.tensor(grid_size(voxel_size, point_cloud_range), device=points.device)
    xyz = points[:, :3].float()
    check_finite(xyz, "points")
    low, side = (xyz.new_tensor(v) for v in (point_cloud_range[:3], voxel_size))
    # limits before the integers: a float beyond their range has no defined value there
    cells = ((xyz - low) / side).floor()
    inside = ((cells >= 0) & (cells < sizes)).all(1, keepdim=True)
    cells = torch.minimum(cells.clamp_min(0), (sizes - 1).to(cells.dtype)).int()
    if out_of_range == "mark":
        cells = torch.where(inside, cells, cells.new_tensor(-1))
    return cells.flip(1)


@renamed_argument("coords", "coors")
def voxel_groups(coors: Tensor) -> Cells:
    """Points grouped by voxel, in lexicographic order; points with a negative entry in none.

    Args:
        coors: (N, 3) or (N, 4) integers, (z, y, x) or (batch, z, y, x).

    Returns:
        Groups whose `inverse` is -1 for points in no voxel.
    """
    inside = (coors >= 0).all(1)
    groups = unique_rows(coors[inside])
    inverse = torch.full((len(coors),), -1, dtype=torch.int64, device=coors.device)
    inverse[inside] = groups.inverse
    return Cells(inverse, groups.counts, groups.rows)


@renamed_argument("coords", "coors")
def dynamic_scatter(
    feats: Tensor, coors: Tensor, reduce: str = "max", groups: Cells | None = None
) -> tuple[Tensor, Cells]:
    """Reduce the features of the points of every voxel.

    Unlike the CUDA code that FlatFormer was published with, no voxel is dropped but the one of
    points that are marked as out of range.

    Args:
        feats: (N, C) features.
        coors: (N, 3) or (N, 4) integers, (z, y, x) or (batch, z, y, x); a negative entry drops the
            point.
        reduce: 'max', 'mean' or 'sum'.
        groups: Of :func:`voxel_groups` of these coors, to be shared by several calls.

    Returns:
        (M, C), and the groups: `rows` (M, 3 or 4) in lexicographic order, `inverse` (N) the voxel
        of every point or -1, `counts` (M).

    Raises:
        ValueError: The lengths differ.
    """
    if len(feats) != len(coors):
        raise ValueError(f"{len(feats)} points have features, {len(coors)} have coordinates")
    if groups is None:
        groups = voxel_groups(coors)
    # a segment more for the points that are in no voxel
    index = torch.where(groups.inverse < 0, len(groups), groups.inverse)
    reduced = segment_reduce(feats, index, len(groups) + 1, reduce)
    return reduced[:-1], groups


@renamed_argument("coords", "coors")
def bev_scatter(feats: Tensor, coors: Tensor, batch_size: int, height: int, width: int) -> Tensor:
    """Pillars on a bird's-eye-view map, zeros elsewhere.

    Args:
        feats: (M, C) features of pillars.
        coors: (M, 4) integers, (batch, z, y, x); each (batch, y, x) at most once.
        batch_size: Samples B.
        height: Rows H of the map, along y.
        width: Columns W of the map, along x.

    Returns:
        (B, C, H, W) in the memory order of channels_last.

    Raises:
        ValueError: A pillar lies outside of the map.
    """
    batch, _, y, x = coors.long().unbind(1)
    for name, values, size in (("batch", batch, batch_size), ("y", y, height), ("x", x, width)):
        if len(values) and (int(values.min()) < 0 or int(values.max()) >= size):
            raise ValueError(
                f"pillars have {name} from {int(values.min())} to {int(values.max())}, but the map "
                f"has 0..{size - 1}"
            )
    flat = feats.new_zeros((batch_size * height * width, feats.shape[1]))
    flat = flat.index_copy(0, (batch * height + y) * width + x, feats)
    return flat.view(batch_size, height, width, -1).permute(0, 3, 1, 2)
