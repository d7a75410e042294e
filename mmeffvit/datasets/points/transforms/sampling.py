"""Transforms that choose points: shuffling, dropping, cropping, and one point per voxel."""

# ruff: noqa: NPY002 (the global generator is the one that mmengine seeds in every worker)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mmeffvit.datasets.points.base import (
    PointTransform,
    check_probability,
    select_points,
    source_of,
)
from mmeffvit.ops.points.cells import CellKeys
from mmeffvit.registry import TRANSFORMS

#: so many cells from the origin, float32 coordinates are up to an eighth of a cell apart
_MAX_CELLS = 2**20


@TRANSFORMS.register_module()
class PointShuffle(PointTransform):
    """Put the points in a random order; mmdet3d's transform of that name."""

    def transform(self, results: dict) -> dict:
        return select_points(results, np.random.permutation(len(results["coord"])))


@TRANSFORMS.register_module()
class RandomDropPoints(PointTransform):
    """Leave out a share of the points, now and then.

    Args:
        drop_ratio: Share of the points that goes.
        prob: Probability that any go.
    """

    def __init__(self, drop_ratio: float = 0.2, prob: float = 0.2):
        self.drop_ratio = check_probability(drop_ratio, "drop_ratio")
        self.prob = check_probability(prob)

    def transform(self, results: dict) -> dict:
        if np.random.random() < self.prob:
            number = len(results["coord"])
            kept = max(int(number * (1 - self.drop_ratio)), min(number, 1))
            select_points(results, np.sort(np.random.choice(number, kept, replace=False)))
        return results


@TRANSFORMS.register_module()
class SphereCrop(PointTransform):
    """Keep the points nearest to one of them, in the order they were in.

    Args:
        max_points: Points that are kept; a cloud with no more is left alone.
        mode: Around a ``'random'`` point, or the one in the ``'center'`` of the list.
    """

    def __init__(self, max_points: int = 80000, mode: str = "random"):
        if max_points < 1:
            raise ValueError(f"max_points must be at least 1, got {max_points}")
        if mode not in ("random", "center"):
            raise ValueError(f"mode must be 'random' or 'center', got {mode!r}")
        self.max_points = max_points
        self.mode = mode

    def transform(self, results: dict) -> dict:
        coord = results["coord"]
        if len(coord) <= self.max_points:
            return results
        middle = np.random.randint(len(coord)) if self.mode == "random" else len(coord) // 2
        distance = np.square(coord - coord[middle]).sum(1)
        nearest = np.argpartition(distance, self.max_points - 1)[: self.max_points]
        return select_points(results, np.sort(nearest))


@dataclass(frozen=True)
class VoxelGroups:
    """The points of every occupied voxel.

    Attributes:
        cells: (M, 3) int64, ``floor(coord / size)`` less its minimum, in lexicographic order.
        inverse: (N) int64, voxel of every point.
        counts: (M) int64, points of every voxel.
        order: (N) int64, the points voxel after voxel; within a voxel as they came.
        starts: (M) int64, where a voxel begins in `order`.
    """

    cells: np.ndarray
    inverse: np.ndarray
    counts: np.ndarray
    order: np.ndarray
    starts: np.ndarray

    def take(self, number: np.ndarray | int) -> np.ndarray:
        """(M) rows of the points with a number within each voxel, counted round and round."""
        return self.order[self.starts + number % self.counts]


def group_voxels(results: dict, voxel_size: float) -> VoxelGroups:
    """Group the points of a sample by voxel; cells are compared as integers, never by a hash.

    Raises:
        ValueError: There are no points, a coordinate is not finite, or voxels are too far from
            the origin to be told apart.
    """
    coord = results["coord"]
    if not len(coord):
        raise ValueError(f"the cloud has no points{source_of(results)}")
    cells = np.floor(coord.astype(np.float64) / voxel_size)
    if not np.abs(cells).max() < _MAX_CELLS:  # NaN as well
        raise ValueError(
            f"coordinates must be finite, and less than {_MAX_CELLS} voxels of {voxel_size} m "
            f"from the origin{source_of(results)}; subtract their mean before (CenterShift)"
        )
    cells = cells.astype(np.int64)
    cells -= cells.min(0)
    keys = CellKeys(torch.from_numpy(cells)).keys.numpy()
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    counts = np.diff(starts, append=len(cells))
    inverse = np.empty(len(cells), np.int64)
    inverse[order] = np.repeat(np.arange(len(starts)), counts)
    return VoxelGroups(cells[order[starts]], inverse, counts, order, starts)


@TRANSFORMS.register_module()
class GridSample(PointTransform):
    """One point per occupied voxel, ``floor(coord / voxel_size)``, and its cell as ``grid_coord``.

    The smallest cell is 0 along every axis. Voxels come in the lexicographic order of (x, y, z).

    Args:
        voxel_size: Side in metres.
        mode: ``'train'`` takes a random point of each voxel. ``'val'`` takes the first one and
            keeps, for results per raw point, ``point2voxel_map`` and ``raw_semantic_mask``.
    """

    def __init__(self, voxel_size: float = 0.04, mode: str = "train"):
        if mode not in ("train", "val"):
            raise ValueError(
                f"mode must be 'train' or 'val', got {mode!r}; for tests on all points there is "
                "TestTimeFragments"
            )
        self.voxel_size = check_voxel_size(voxel_size)
        self.mode = mode

    def transform(self, results: dict) -> dict:
        groups = group_voxels(results, self.voxel_size)
        if self.mode == "train":
            select_points(results, groups.take(np.random.randint(groups.counts)))
        else:
            raw = results.get("pts_semantic_mask")
            select_points(results, groups.take(0))
            results["point2voxel_map"] = groups.inverse
            if raw is not None:
                results["raw_semantic_mask"] = raw
        results["grid_coord"] = groups.cells
        return results


def check_voxel_size(value: float) -> float:
    """The value, or a ValueError if it is not a positive number."""
    if not (np.ndim(value) == 0 and value > 0):
        raise ValueError(f"voxel_size must be a positive number of metres, got {value}")
    return float(value)
