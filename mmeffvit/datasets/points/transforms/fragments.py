"""Test-time voting: every raw point in some voxel set, under several turns and scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from mmengine.dataset import Compose
from torch import Tensor

from mmeffvit.datasets.points.base import POINT_KEYS, PointTransform, select_points, source_of
from mmeffvit.datasets.points.transforms.pack import point_features
from mmeffvit.datasets.points.transforms.sampling import VoxelGroups, check_voxel_size, group_voxels
from mmeffvit.registry import TRANSFORMS


class Fragments:
    """The fragments of one room, each made when it is asked for.

    A fragment is a dict of tensors: ``points`` (M, C) float32, ``coors`` (M, 3) int64, one point
    per voxel, and ``index`` (M) int64, the raw point of each row. Every raw point is in at least
    one fragment of each variant.

    It is no `Sequence`, so that collating leaves it whole: a batch has one of these per room.

    Args:
        results: The raw room.
        variants: Transforms of the whole room, one for each variant; they must not be random, nor
            leave points out.
        transforms: Transforms of each fragment.
        voxel_size: Side in metres.
        feat_keys: Keys whose columns are the features.
    """

    def __init__(
        self,
        results: dict,
        variants: Sequence[Compose],
        transforms: Compose,
        voxel_size: float,
        feat_keys: Sequence[str],
    ):
        kept = {*POINT_KEYS, "lidar_path"}
        self._raw = {key: value for key, value in results.items() if key in kept}
        self._variants = variants
        self._transforms = transforms
        self._voxel_size = voxel_size
        self._feat_keys = feat_keys
        self._opened: tuple[int, dict, VoxelGroups] | None = None
        numbers = [self._open(variant)[1].counts.max() for variant in range(len(variants))]
        #: fragments up to and with each variant
        self._ends = np.cumsum(numbers)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} fragments, there is no {index}")
        index %= len(self)
        variant = int(np.searchsorted(self._ends, index, side="right"))
        first = self._ends[variant - 1] if variant else 0
        results, groups = self._open(variant)
        if groups.counts.max() != self._ends[variant] - first:
            raise ValueError(
                f"variant {variant} gives another number of fragments each time; transforms in "
                "variants must not be random"
            )
        rows = groups.take(index - first)
        fragment = select_points(dict(results), rows)
        fragment["grid_coord"] = groups.cells
        fragment = self._transforms(fragment)
        if fragment["grid_coord"] is not groups.cells:
            raise ValueError("transforms of fragments must not choose or reorder points")
        return {
            "points": point_features(fragment, self._feat_keys),
            "coors": torch.from_numpy(groups.cells),
            "index": torch.from_numpy(rows),
        }

    def _open(self, variant: int) -> tuple[dict, VoxelGroups]:
        """A variant's room and voxels; one at a time is kept, since a room can be large."""
        if self._opened is None or self._opened[0] != variant:
            results = self._variants[variant](dict(self._raw))
            if len(results["coord"]) != len(self._raw["coord"]):
                raise ValueError(
                    f"variant {variant} leaves points out; every raw point needs its vote"
                )
            self._opened = variant, results, group_voxels(results, self._voxel_size)
        return self._opened[1:]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_opened": None}  # workers send what cannot be made again


@TRANSFORMS.register_module()
class TestTimeFragments(PointTransform):
    """Split a room into sets with one point per voxel, for voting over all its raw points.

    Fragment i of a variant takes point ``i mod count`` of every voxel, and there are as many as the
    fullest voxel has points (Wu et al., Point Transformer V2, arXiv 2210.05666, code for tests).
    The model sums the class probabilities of each raw point over the fragments it is in. Adds
    ``fragments`` (:class:`Fragments`) and leaves the raw points as they are.

    Args:
        voxel_size: Side in metres.
        variants: For each variant, the transforms of the whole room, such as a turn and a scale. An
            empty list is the room as it is.
        transforms: Transforms of each fragment, such as those of its colours.
        feat_keys: As in `PackPointInputs`.
    """

    __test__ = False  # its name is not that of a test

    def __init__(
        self,
        voxel_size: float = 0.04,
        variants: Sequence[Sequence[dict]] = ((),),
        transforms: Sequence[dict] = (),
        feat_keys: Sequence[str] = ("coord", "color"),
    ):
        if not variants:
            raise ValueError("variants must have one list of transforms or more; [[]] is the room")
        self.voxel_size = check_voxel_size(voxel_size)
        self.variants = [Compose(list(variant)) for variant in variants]
        self.transforms = Compose(list(transforms))
        self.feat_keys = tuple(feat_keys)

    def transform(self, results: dict) -> dict:
        if "grid_coord" in results:
            raise ValueError(
                f"TestTimeFragments takes raw points, not voxels{source_of(results)}; leave "
                "GridSample out before it"
            )
        results["fragments"] = Fragments(
            results, self.variants, self.transforms, self.voxel_size, self.feat_keys
        )
        return results
