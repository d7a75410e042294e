"""Operators on point clouds in plain PyTorch: no compiled extension, any device.

N points, M rows of what they are grouped into (cells, voxels, windows), B samples, Q queries, C
channels, h heads, d head dimension. README.md beside this file lists all of them.
"""

from mmeffvit.ops.points.batches import (
    batch_to_offset,
    check_finite,
    check_offset,
    check_pillars,
    check_points,
    check_voxels,
    offset_to_batch,
)
from mmeffvit.ops.points.boxes import (
    bev_boxes,
    box_corners,
    boxes_from_mmdet3d_v0,
    greedy_keep,
    greedy_matches,
    near_pairs,
    points_in_boxes,
    rotated_iou,
    rotated_iou_3d,
    rotated_nms,
    rotated_overlap,
    wrap_angle,
)
from mmeffvit.ops.points.cells import Cells, grid_cluster, to_cells, unique_rows
from mmeffvit.ops.points.groups import EqualGroups, equal_groups, window_snake_order
from mmeffvit.ops.points.knn import interpolate, knn
from mmeffvit.ops.points.neighbours import kernel_offsets, sparse_neighbours
from mmeffvit.ops.points.sampling import furthest_point_sampling
from mmeffvit.ops.points.segments import (
    offsets_to_index,
    segment_places,
    segment_reduce,
    segment_softmax,
)
from mmeffvit.ops.points.submanifold_conv import depthwise_submanifold_conv3d, submanifold_conv3d
from mmeffvit.ops.points.voxels import (
    bev_scatter,
    dynamic_scatter,
    dynamic_voxelize,
    grid_size,
    voxel_groups,
)
from mmeffvit.ops.points.window_attention import window_attention
from mmeffvit.ops.points.windows import PaddedWindows, RelativeWindows, partition_windows

__all__ = [
    "Cells",
    "EqualGroups",
    "PaddedWindows",
    "RelativeWindows",
    "batch_to_offset",
    "bev_boxes",
    "bev_scatter",
    "box_corners",
    "boxes_from_mmdet3d_v0",
    "check_finite",
    "check_offset",
    "check_pillars",
    "check_points",
    "check_voxels",
    "depthwise_submanifold_conv3d",
    "dynamic_scatter",
    "dynamic_voxelize",
    "equal_groups",
    "furthest_point_sampling",
    "greedy_keep",
    "greedy_matches",
    "grid_cluster",
    "grid_size",
    "interpolate",
    "kernel_offsets",
    "knn",
    "near_pairs",
    "offset_to_batch",
    "offsets_to_index",
    "partition_windows",
    "points_in_boxes",
    "rotated_iou",
    "rotated_iou_3d",
    "rotated_nms",
    "rotated_overlap",
    "segment_places",
    "segment_reduce",
    "segment_softmax",
    "sparse_neighbours",
    "submanifold_conv3d",
    "to_cells",
    "unique_rows",
    "voxel_groups",
    "window_attention",
    "window_snake_order",
    "wrap_angle",
]
