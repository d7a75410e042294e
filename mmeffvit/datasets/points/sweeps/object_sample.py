"""Pasting objects of other sweeps into a sweep (SECOND, Sensors 2018, 18(10), 3337, sec. 3.3)."""

# ruff: noqa: NPY002 (the global generator is the one that mmengine seeds in every worker)

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import BaseDataset

from mmeffvit.datasets.points.base import POINT_KEYS, PointTransform, select_points, source_of
from mmeffvit.datasets.points.sweeps.filters import inside_boxes
from mmeffvit.files import whole_file
from mmeffvit.ops.points import bev_boxes, greedy_keep, near_pairs, rotated_overlap
from mmeffvit.registry import TRANSFORMS

#: square metres that boxes may share
_TOUCHING = 1e-6


def build_object_database(
    dataset: BaseDataset,
    out: str | os.PathLike,
    min_points: int = 1,
    log: Callable[[str], None] = lambda message: None,
) -> int:
    """Write the points inside of every object of a data set, for `ObjectSample`.

    The file is one of safetensors, whole or absent, with nothing but numbers: per object its box
    and label, and where its points end; per point what pipelines have per point.

    Args:
        dataset: Its pipeline loads points, as the one for training does, and does nothing else.
        out: The file, ``.safetensors``.
        min_points: Objects with fewer points are left out.
        log: Called with messages about the progress.

    Returns:
        The number of objects.

    Raises:
        ValueError: `out` has another suffix, or there is no object.
    """
    from safetensors.torch import save_file

    if Path(out).suffix != ".safetensors":
        raise ValueError(f"the object database must be a .safetensors file, got {out}")
    points: dict[str, list[np.ndarray]] = {}
    boxes, labels, counts = [], [], []
    start = reported = time.monotonic()
    for index in range(len(dataset)):
        results = dataset[index]
        inside = inside_boxes(results["coord"], results["gt_bboxes_3d"])
        for number, rows in enumerate(inside.T):
            rows = rows.nonzero()[0]
            if len(rows) < min_points:
                continue
            for key in POINT_KEYS:
                if key in results:
                    points.setdefault(key, []).append(results[key][rows])
            boxes.append(results["gt_bboxes_3d"][number])
            labels.append(results["gt_labels_3d"][number])
            counts.append(len(rows))
        now = time.monotonic()
        if now > reported + 5:
            reported = now
            left = (now - start) * (len(dataset) / (index + 1) - 1)
            log(f"{index + 1} of {len(dataset)} sweeps, {len(counts)} objects, {left:.0f} s left")
    if not counts:
        raise ValueError(f"no object of {len(dataset)} sweeps has {min_points} points")
    tensors = {f"points.{key}": _tensor(np.concatenate(parts)) for key, parts in points.items()}
    tensors["boxes"], tensors["labels"] = _tensor(np.stack(boxes)), _tensor(np.array(labels))
    tensors["ends"] = _tensor(np.cumsum(counts))
    metadata = {"classes": json.dumps(list(dataset.metainfo["classes"]))}
    with whole_file(out) as scratch:
        save_file(tensors, scratch, metadata)
    return len(counts)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


@TRANSFORMS.register_module()
class ObjectSample(PointTransform):
    """Paste objects of other sweeps, where they stood there; mmdet3d's transform of that name.

    What is in the sweep stays. An object that would overlap another one, seen from above, is not
    pasted; points of the sweep inside of its box go. Comes before transforms that move the scene.

    Args:
        info_path: A file of :func:`build_object_database`. Points are read from it as they are
            needed.
        classes: Names of the labels of the sweeps, in their order.
        sample_groups: Class -> objects that a sweep has in the end, unless they are in the way.
        min_points: Class -> points that an object needs to be pasted.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or classes are missing.
    """

    def __init__(
        self,
        info_path: str,
        classes: Sequence[str],
        sample_groups: Mapping[str, int],
        min_points: Mapping[str, int] | None = None,
    ):
        self.info_path = info_path
        self.classes = tuple(classes)
        self.sample_groups = dict(sample_groups)
        self.min_points = dict(min_points or {})
        self._file = None
        strange = (self.sample_groups.keys() | self.min_points.keys()) - set(self.classes)
        if strange:
            raise ValueError(f"{sorted(strange)} are no classes; there are {self.classes}")
        if not Path(info_path).is_file():
            raise FileNotFoundError(
                f"the object database {info_path} is missing; it is written by "
                "tools/build_object_database.py, and training works without ObjectSample"
            )
        file = self._open()
        if not {"boxes", "labels", "ends"} <= set(file.keys()):
            raise ValueError(f"{info_path} is not an object database, it has {file.keys()}")
        names = json.loads((file.metadata() or {}).get("classes", "[]"))
        missing = [name for name in self.sample_groups if name not in names]
        if missing:
            raise ValueError(f"the object database {info_path} has no class {missing}, but {names}")
        self._boxes = file.get_tensor("boxes").numpy()
        self._ends = np.append(0, file.get_tensor("ends").numpy())
        labels, counts = file.get_tensor("labels").numpy(), np.diff(self._ends)
        self._rows = {
            name: np.flatnonzero(
                (labels == names.index(name)) & (counts >= self.min_points.get(name, 1))
            )
            for name in self.sample_groups
        }

    def transform(self, results: dict) -> dict:
        labels = results["gt_labels_3d"]
        rows, names = [], []
        for name, wanted in self.sample_groups.items():
            label = self.classes.index(name)
            number = min(wanted - int((labels == label).sum()), len(self._rows[name]))
            if number > 0:
                rows.append(np.random.choice(self._rows[name], number, replace=False))
                names.append(np.full(number, label))
        if not rows:
            return results
        rows, names = np.concatenate(rows), np.concatenate(names)
        free = self._free(results["gt_bboxes_3d"], self._boxes[rows])
        return self._paste(results, rows[free], names[free]) if free.any() else results

    @staticmethod
    def _free(there: np.ndarray, new: np.ndarray) -> np.ndarray:
        """(n) bool, boxes that overlap none that is there, and none before them that is free."""
        boxes = torch.from_numpy(bev_boxes(np.concatenate((there, new)))).double()
        first, second = near_pairs(boxes, boxes)
        pairs = (first < second) & (second >= len(there))
        first, second = first[pairs], second[pairs]
        clash = rotated_overlap(boxes[first], boxes[second]) > _TOUCHING
        return greedy_keep(first[clash], second[clash], len(boxes)).numpy()[len(there) :]

    def _paste(self, results: dict, rows: np.ndarray, labels: np.ndarray) -> dict:
        boxes = self._boxes[rows]
        select_points(results, ~inside_boxes(results["coord"], boxes).any(1))
        file = self._open()
        for key in [key for key in POINT_KEYS if key in results]:
            if f"points.{key}" not in file.keys():  # noqa: SIM118  not a dict
                raise ValueError(
                    f"the object database {self.info_path} has no {key}, which the points of a "
                    f"sweep have{source_of(results)}; write it with the same loading steps"
                )
            points = file.get_slice(f"points.{key}")
            pasted = [points[self._ends[row] : self._ends[row + 1]].numpy() for row in rows]
            results[key] = np.concatenate([*pasted, results[key]])
        results["gt_bboxes_3d"] = np.concatenate((results["gt_bboxes_3d"], boxes))
        results["gt_labels_3d"] = np.concatenate((results["gt_labels_3d"], labels))
        return results

    def _open(self):
        """The file, mapped into memory once per process."""
        from safetensors import SafetensorError, safe_open

        if self._file is None:
            try:
                self._file = safe_open(self.info_path, framework="pt")
            except SafetensorError as error:
                raise ValueError(
                    f"the object database {self.info_path} is damaged ({error}); write it again"
                ) from error
        return self._file

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None}

    def __repr__(self) -> str:
        return (
            f"ObjectSample(info_path={self.info_path!r}, sample_groups={self.sample_groups}, "
            f"min_points={self.min_points})"
        )
