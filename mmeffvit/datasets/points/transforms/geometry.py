"""Transforms that move points: rotation, scale, flips, noise, distortion, and centring.

Those that move a scene as a whole move ``coord``, ``normal`` and ``gt_bboxes_3d`` alike.
"""

# ruff: noqa: NPY002 (the global generator is the one that mmengine seeds in every worker)

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from mmeffvit.datasets.points.base import (
    PointTransform,
    check_probability,
    check_range,
    source_of,
)
from mmeffvit.registry import TRANSFORMS

_AXES = ("x", "y", "z")
#: cells of the coarse noise of ElasticDistortion: 0.4 GiB, rooms need some thousand
_MAX_NOISE_CELLS = 2**25


def rotation_matrix(angle: float, axis: str = "z") -> np.ndarray:
    """(3, 3) float64 that turns column vectors by `angle` radians, counter-clockwise.

    >>> rotation_matrix(np.pi / 2).round().tolist()
    [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    cos, sin = np.cos(angle), np.sin(angle)
    first, second = [i for i in range(3) if _AXES[i] != axis]
    if axis == "y":  # z turns towards x
        first, second = second, first
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = cos
    matrix[first, second], matrix[second, first] = -sin, sin
    return matrix


def rotate(results: dict, angle: float, axis: str = "z", center: np.ndarray | None = None) -> dict:
    """Turn a scene by an angle in radians about an axis through a point, (3), or the origin.

    Raises:
        ValueError: It has boxes, and would be tilted; boxes stand upright.
    """
    matrix = rotation_matrix(angle, axis)
    center = np.zeros(3) if center is None else np.asarray(center, np.float64)
    results["coord"] = _affine(results["coord"], matrix, center - matrix @ center)
    if "normal" in results:
        results["normal"] = _affine(results["normal"], matrix)
    if "gt_bboxes_3d" in results:
        if axis != "z":
            raise ValueError(
                f"boxes stand upright and cannot turn about {axis}; use axis='z' where there are "
                "gt_bboxes_3d"
            )
        boxes = results["gt_bboxes_3d"].copy()
        boxes[:, :3] = _affine(boxes[:, :3], matrix, center - matrix @ center)
        boxes[:, 6] += angle
        results["gt_bboxes_3d"] = boxes
    return results


def scale(results: dict, factor: float) -> dict:
    """Scale a scene about the origin."""
    results["coord"] = _float32(results["coord"].astype(np.float64) * factor)
    if "gt_bboxes_3d" in results:
        boxes = results["gt_bboxes_3d"].copy()
        boxes[:, :6] *= factor
        results["gt_bboxes_3d"] = boxes
    return results


def translate(results: dict, shift: Sequence[float]) -> dict:
    """Move a scene by (3) metres."""
    shift = np.asarray(shift, np.float64)
    results["coord"] = _float32(results["coord"] + shift)
    if "gt_bboxes_3d" in results:
        boxes = results["gt_bboxes_3d"].copy()
        boxes[:, :3] += shift
        results["gt_bboxes_3d"] = boxes
    return results


def flip(results: dict, axis: str) -> dict:
    """Mirror a scene: ``axis='y'`` changes the sign of y.

    Raises:
        ValueError: It has boxes and the axis is z; boxes stand on their bottom.
    """
    column = _AXES.index(axis)
    signs = np.ones(3, np.float32)
    signs[column] = -1
    results["coord"] = results["coord"] * signs
    if "normal" in results:
        results["normal"] = results["normal"] * signs
    if "gt_bboxes_3d" in results:
        if axis == "z":
            raise ValueError("boxes stand on their bottom and cannot be turned upside down")
        boxes = results["gt_bboxes_3d"].copy()
        boxes[:, column] *= -1
        boxes[:, 6] = -boxes[:, 6] if axis == "y" else np.pi - boxes[:, 6]
        results["gt_bboxes_3d"] = boxes
    return results


def _affine(points: np.ndarray, matrix: np.ndarray, shift: np.ndarray | None = None) -> np.ndarray:
    moved = np.einsum("nk,jk->nj", points, matrix)  # BLAS would start threads
    return _float32(moved if shift is None else moved + shift)


def _float32(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)


@TRANSFORMS.register_module()
class GlobalRotScaleTrans(PointTransform):
    """Turn, scale and move a scene, in this order; mmdet3d's transform of that name.

    Args:
        rot_range: Angles (low, high) in radians, one is drawn; a number means (-number, number).
        scale_ratio_range: Factors (low, high), one is drawn; scenes are scaled about the origin.
        translation_std: Standard deviation of the shift in metres, one or one per axis.
        axis: Turn about ``'x'``, ``'y'`` or ``'z'``. Scenes with boxes turn about z.
        center: The axis goes through ``'origin'``, or ``'box'``: the middle of the smallest
            upright box around the points.
        rot_prob: Probability that the scene is turned at all.
    """

    def __init__(
        self,
        rot_range: float | Sequence[float] = (-np.pi / 4, np.pi / 4),
        scale_ratio_range: Sequence[float] = (0.95, 1.05),
        translation_std: float | Sequence[float] = (0.0, 0.0, 0.0),
        axis: str = "z",
        center: str = "origin",
        rot_prob: float = 1.0,
    ):
        if np.ndim(rot_range) == 0:
            rot_range = (-abs(rot_range), abs(rot_range))
        if axis not in _AXES:
            raise ValueError(f"axis must be 'x', 'y' or 'z', got {axis!r}")
        if center not in ("origin", "box"):
            raise ValueError(f"center must be 'origin' or 'box', got {center!r}")
        self.rot_range = check_range(rot_range, "rot_range")
        self.scale_ratio_range = check_range(scale_ratio_range, "scale_ratio_range", positive=True)
        self.translation_std = _per_axis(translation_std, "translation_std")
        self.axis = axis
        self.center = center
        self.rot_prob = check_probability(rot_prob, "rot_prob")

    def transform(self, results: dict) -> dict:
        if np.random.random() < self.rot_prob:
            center = None
            if self.center == "box":
                center = (results["coord"].min(0) + results["coord"].max(0)) / 2
            rotate(results, np.random.uniform(*self.rot_range), self.axis, center)
        if self.scale_ratio_range != (1, 1):
            scale(results, np.random.uniform(*self.scale_ratio_range))
        if any(self.translation_std):
            translate(results, np.random.normal(scale=self.translation_std))
        return results


@TRANSFORMS.register_module()
class RandomFlip3D(PointTransform):
    """Mirror a scene; mmdet3d's transform of that name for LiDAR frames.

    Args:
        flip_ratio_bev_horizontal: Probability that y changes its sign.
        flip_ratio_bev_vertical: Probability that x does.
    """

    def __init__(
        self, flip_ratio_bev_horizontal: float = 0.0, flip_ratio_bev_vertical: float = 0.0
    ):
        self.flip_ratio_bev_horizontal = check_probability(
            flip_ratio_bev_horizontal, "flip_ratio_bev_horizontal"
        )
        self.flip_ratio_bev_vertical = check_probability(
            flip_ratio_bev_vertical, "flip_ratio_bev_vertical"
        )

    def transform(self, results: dict) -> dict:
        if np.random.random() < self.flip_ratio_bev_horizontal:
            flip(results, "y")
        if np.random.random() < self.flip_ratio_bev_vertical:
            flip(results, "x")
        return results


@TRANSFORMS.register_module()
class RandomJitterPoints(PointTransform):
    """Move every point by itself; mmdet3d's transform of that name.

    Args:
        jitter_std: Standard deviation in metres, one or one per axis.
        clip_range: No point moves by less or more than these metres along an axis.
    """

    def __init__(
        self,
        jitter_std: float | Sequence[float] = (0.01, 0.01, 0.01),
        clip_range: Sequence[float] = (-0.05, 0.05),
    ):
        self.jitter_std = _per_axis(jitter_std, "jitter_std")
        self.clip_range = check_range(clip_range, "clip_range")

    def transform(self, results: dict) -> dict:
        noise = np.random.normal(scale=self.jitter_std, size=results["coord"].shape)
        results["coord"] = _float32(results["coord"] + noise.clip(*self.clip_range))
        return results


@TRANSFORMS.register_module()
class CenterShift(PointTransform):
    """Put the middle of the box around the points on the origin in x and y.

    Args:
        apply_z: Put the lowest point on z = 0 as well.
    """

    def __init__(self, apply_z: bool = True):
        self.apply_z = apply_z

    def transform(self, results: dict) -> dict:
        low, high = _box(results)
        middle = (low + high) / 2
        return translate(results, (-middle[0], -middle[1], -low[2] if self.apply_z else 0.0))


@TRANSFORMS.register_module()
class PositiveShift(PointTransform):
    """Put the lowest corner of the box around the points on the origin."""

    def transform(self, results: dict) -> dict:
        return translate(results, -_box(results)[0])


def _box(results: dict) -> tuple[np.ndarray, np.ndarray]:
    coord = results["coord"]
    if not len(coord):
        raise ValueError(f"the cloud has no points{source_of(results)}")
    return coord.min(0).astype(np.float64), coord.max(0).astype(np.float64)


@TRANSFORMS.register_module()
class ElasticDistortion(PointTransform):
    """Bend a room by smooth noise, coarse and fine.

    Gaussian noise on a grid, blurred twice by a mean over three cells along every axis, is
    interpolated at the points and added to them (Choy et al., 4D Spatio-Temporal ConvNets,
    arXiv 1904.08755, code for ScanNet). Normals stay as they are.

    Args:
        distortion_params: Pairs (side of a cell, factor of the noise), both in metres, applied one
            after the other.
        prob: Probability that anything happens.
    """

    def __init__(
        self,
        distortion_params: Sequence[Sequence[float]] = ((0.2, 0.4), (0.8, 1.6)),
        prob: float = 0.95,
    ):
        self.distortion_params = tuple((float(g), float(m)) for g, m in distortion_params)
        if any(granularity <= 0 for granularity, _ in self.distortion_params):
            raise ValueError(
                f"sides of cells in distortion_params must be positive, got {distortion_params}"
            )
        self.prob = check_probability(prob)

    def transform(self, results: dict) -> dict:
        if "gt_bboxes_3d" in results:
            raise ValueError("boxes cannot be bent; leave ElasticDistortion out for detection")
        if np.random.random() < self.prob:
            for granularity, magnitude in self.distortion_params:
                results["coord"] = _float32(
                    results["coord"] + magnitude * self._noise_at(results, granularity)
                )
        return results

    def _noise_at(self, results: dict, granularity: float) -> np.ndarray:
        """(N, 3) float64."""
        low, high = _box(results)
        size = np.floor((high - low) / granularity) + 3
        if not np.prod(size) <= _MAX_NOISE_CELLS:
            raise ValueError(
                f"the cloud is {np.round(high - low, 2).tolist()} m large, too much for noise in "
                f"cells of {granularity} m{source_of(results)}; are there stray points?"
            )
        size = size.astype(np.int64)
        noise = torch.from_numpy(np.random.randn(1, 3, *size))
        for _ in range(2):
            noise = F.avg_pool3d(noise, 3, stride=1, padding=1)  # zeros around count as well
        # the first cell lies one before the lowest corner
        place = (results["coord"] - low) / granularity + 1
        place = torch.from_numpy(place / (size - 1) * 2 - 1).flip(1)  # last axis first
        values = F.grid_sample(noise, place[None, :, None, None], align_corners=True)
        return values[0, :, :, 0, 0].T.numpy()


def _per_axis(value: float | Sequence[float], name: str) -> tuple[float, float, float]:
    values = (value,) * 3 if np.ndim(value) == 0 else tuple(value)
    if len(values) != 3 or any(v < 0 for v in values):
        raise ValueError(f"{name} must be one or three numbers, none below zero, got {value}")
    return tuple(float(v) for v in values)
