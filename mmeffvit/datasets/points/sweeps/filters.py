"""Transforms that leave out points and objects of sweeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mmeffvit.datasets.points.base import PointTransform, select_points
from mmeffvit.ops.points import points_in_boxes
from mmeffvit.registry import TRANSFORMS


def inside_boxes(coord: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(N, n) bool, which of (N, 3) points lie in (n, 7) boxes, z at their bottom."""
    boxes = torch.from_numpy(np.array(boxes, np.float32))
    boxes[:, 2] += boxes[:, 5] / 2
    return points_in_boxes(torch.from_numpy(np.ascontiguousarray(coord)), boxes).numpy()


def _check_limits(limits: Sequence[float]) -> np.ndarray:
    array = np.array(limits, np.float64)
    if array.shape != (6,) or (array[:3] >= array[3:]).any():
        raise ValueError(
            f"point_cloud_range must be (x, y, z, x, y, z), lowest first, got {limits}"
        )
    return array


@TRANSFORMS.register_module()
class PointsRangeFilter(PointTransform):
    """Keep the points strictly within a range; mmdet3d's transform of that name.

    Args:
        point_cloud_range: (x, y, z, x, y, z), lowest first, in metres.
    """

    def __init__(self, point_cloud_range: Sequence[float]):
        self.limits = _check_limits(point_cloud_range)

    def transform(self, results: dict) -> dict:
        coord = results["coord"]
        inside = (coord > self.limits[:3]) & (coord < self.limits[3:])
        return select_points(results, inside.all(1))


@TRANSFORMS.register_module()
class CameraViewFilter(PointTransform):
    """Keep the points that the camera sees, by ``lidar2img``: KITTI has no labels elsewhere.

    Args:
        image_size: (width, height) in pixels.
    """

    def __init__(self, image_size: Sequence[float] = (1242, 375)):
        self.image_size = tuple(image_size)

    def transform(self, results: dict) -> dict:
        matrix = results["lidar2img"]
        u, v, depth = (results["coord"] @ matrix[:3, :3].T + matrix[:3, 3]).T
        ahead = depth > 0
        depth = np.where(ahead, depth, 1)
        width, height = self.image_size
        seen = (u >= 0) & (u < width * depth) & (v >= 0) & (v < height * depth)
        return select_points(results, ahead & seen)


@TRANSFORMS.register_module()
class ObjectRangeFilter(PointTransform):
    """Keep the objects whose centre lies within a range in the plane; mmdet3d's transform.

    Args:
        point_cloud_range: (x, y, z, x, y, z), lowest first, in metres.
    """

    def __init__(self, point_cloud_range: Sequence[float]):
        self.limits = _check_limits(point_cloud_range)

    def transform(self, results: dict) -> dict:
        centres = results["gt_bboxes_3d"][:, :2]
        inside = (centres > self.limits[:2]) & (centres < self.limits[3:5])
        return _select_objects(results, inside.all(1))


@TRANSFORMS.register_module()
class ObjectPointsFilter(PointTransform):
    """Leave out objects with few points; in tests they are ignored.

    Args:
        min_points: Points that an object needs.
    """

    def __init__(self, min_points: int = 1):
        self.min_points = min_points

    def transform(self, results: dict) -> dict:
        counts = inside_boxes(results["coord"], results["gt_bboxes_3d"]).sum(0)
        if "eval_ann_info" in results:
            truth = dict(results["eval_ann_info"])
            few = inside_boxes(results["coord"], truth["gt_bboxes_3d"]).sum(0) < self.min_points
            truth["gt_ignore"] = truth.get("gt_ignore", False) | few
            results["eval_ann_info"] = truth
        return _select_objects(results, counts >= self.min_points)


def _select_objects(results: dict, index: np.ndarray) -> dict:
    for key in ("gt_bboxes_3d", "gt_labels_3d"):
        results[key] = results[key][index]
    return results
