"""What pipelines of point clouds have in common: the dict that goes through them.

One form for rooms and for sweeps, of numpy arrays. Per point (:data:`POINT_KEYS`), those that the
data has:

=====================  =====================  ==================================================
``coord``              (N, 3) float32         x, y, z in metres
``color``              (N, 3) float32         red, green, blue, 0 to 255
``normal``             (N, 3) float32         of length one
``intensity``          (N, 1) float32
``elongation``         (N, 1) float32
``time``               (N, 1) float32         seconds
``pts_semantic_mask``  (N) int64              class, 255 where it is not known
``pts_instance_mask``  (N) int64
``grid_coord``         (N, 3) int64           cell, once there is one point per voxel
=====================  =====================  ==================================================

Not per point: ``gt_bboxes_3d`` (n, 7) float32, (x, y, z of the bottom, dx, dy, dz, yaw) with yaw 0
along +x and growing towards +y; ``gt_labels_3d`` (n) int64; ``point2voxel_map`` (R) int64 and
``raw_semantic_mask`` (R) int64, the voxel and the class of the raw points, where voxels stand for
them; ``eval_ann_info``, ``lidar_path``, ``sample_idx``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

#: the keys of a results dict that have one row per point
POINT_KEYS = (
    "coord",
    "color",
    "normal",
    "intensity",
    "elongation",
    "time",
    "pts_semantic_mask",
    "pts_instance_mask",
    "grid_coord",
)


class PointTransform(ABC):
    """A step of a pipeline: a dict in, a dict out, or None if the sample is of no use.

    Arrays that come in are never written to: what changes is a new array. Random numbers are those
    of `np.random`, which mmengine seeds in every worker.
    """

    def __call__(self, results: dict) -> dict | None:
        return self.transform(results)

    @abstractmethod
    def transform(self, results: dict) -> dict | None:
        """Transform one sample; see the class."""

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name.lstrip('_')}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"


def select_points(results: dict, index: np.ndarray) -> dict:
    """Take rows of everything that is per point: a choice, a new order, or repetitions.

    Args:
        results: A pipeline's dict; changed and returned.
        index: (M) integers, or (N) bool.

    Raises:
        ValueError: Per-point arrays have different lengths, or raw points that voxels stand for
            would be left without their voxel.
    """
    lengths = {key: len(results[key]) for key in POINT_KEYS if key in results}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"arrays per point must have one length, got {lengths}{source_of(results)}"
        )
    if "point2voxel_map" in results:
        _follow_voxels(results, index, next(iter(lengths.values())))
    for key in lengths:
        results[key] = results[key][index]
    return results


def _follow_voxels(results: dict, index: np.ndarray, num_voxels: int) -> None:
    rows = np.arange(num_voxels)[index]
    place = np.full(num_voxels, -1)
    place[rows] = np.arange(len(rows))
    raw = place[results["point2voxel_map"]]
    if (raw < 0).any():
        raise ValueError(
            f"{int((raw < 0).sum())} raw points would be left without the voxel that stands for "
            "them; points can be left out before GridSample(mode='val'), not after it"
        )
    results["point2voxel_map"] = raw


def source_of(results: dict) -> str:
    """`` (path)`` for messages, or nothing where the dict does not say."""
    return f" ({results['lidar_path']})" if results.get("lidar_path") else ""


def check_probability(value: float, name: str = "prob") -> float:
    """The value, or a ValueError if it is not in 0..1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be a probability in 0..1, got {value}")
    return value


def check_range(values: Sequence[float], name: str, positive: bool = False) -> tuple[float, float]:
    """A pair (low, high), or a ValueError.

    Args:
        values: What was given.
        name: What the error calls it.
        positive: Both must be above zero.
    """
    pair = tuple(float(value) for value in values)
    if len(pair) != 2 or not pair[0] <= pair[1] or (positive and pair[0] <= 0):
        kind = "two positive numbers" if positive else "two numbers"
        raise ValueError(f"{name} must be {kind} (low, high), got {values}")
    return pair
