"""What data sets of LiDAR sweeps have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from mmengine.dataset import BaseDataset


class BaseSweepDataset(BaseDataset):
    """Sweeps with boxes, in the dict of `mmeffvit.datasets.points.base`.

    A sample has ``lidar_path``, ``gt_bboxes_3d`` and ``gt_labels_3d`` of the objects that count,
    and, in test mode, ``eval_ann_info`` for `mmeffvit.PointDetMetric`: all objects, with
    ``gt_ignore`` for those that count neither way. Points are read by `LoadPointsFromFile`.

    Args:
        *args: Of mmengine's `BaseDataset`.
        with_label: False for sweeps without labels. Samples then have no objects, in test mode no
            ``eval_ann_info`` either, and metrics measure nothing.
        **kwargs: Of mmengine's `BaseDataset`; ``filter_cfg=dict(filter_empty_gt=True)`` leaves out
            sweeps without an object while training.
    """

    def __init__(self, *args, with_label: bool = True, lazy_init: bool = False, **kwargs):
        super().__init__(*args, lazy_init=True, **kwargs)
        if not with_label and not self.test_mode:
            raise ValueError("with_label=False is for tests: without labels nothing can be trained")
        self.with_label = with_label
        classes, palette = (self._metainfo.get(key) or () for key in ("classes", "palette"))
        if len(palette) != len(classes):  # own classes have no colours of others
            self._metainfo.pop("palette", None)
        if not lazy_init:
            self.full_init()

    def filter_data(self) -> list[dict]:
        """See `filter_cfg` of the class."""
        if self.test_mode or not (self.filter_cfg or {}).get("filter_empty_gt", False):
            return self.data_list
        return [info for info in self.data_list if len(info["gt_labels_3d"])]

    def path(self, kind: str, name: str) -> str:
        """A file in the folder that `data_prefix` has for a kind."""
        return os.path.join(self.data_prefix.get(kind, self.data_root or ""), name)

    def add_objects(
        self, info: dict, names: Sequence[str], boxes: np.ndarray, ignored: np.ndarray
    ) -> dict:
        """Put the objects of a sweep into its dict.

        Args:
            info: Changed and returned.
            names: (n) classes; of those that the data set does not have, objects are left out.
            boxes: (n, 7), z at the bottom.
            ignored: (n) bool, not to be counted.
        """
        classes = {name: label for label, name in enumerate(self.metainfo["classes"])}
        labels = np.array([classes.get(name, -1) for name in names], np.int64)
        boxes = np.asarray(boxes, np.float32).reshape(-1, 7)
        known = labels >= 0
        boxes, labels, ignored = boxes[known], labels[known], np.asarray(ignored, bool)[known]
        info["gt_bboxes_3d"], info["gt_labels_3d"] = boxes, labels
        if self.test_mode:
            truth = {"gt_bboxes_3d": boxes, "gt_labels_3d": labels, "gt_ignore": ignored}
            info["eval_ann_info"] = truth
            info["gt_bboxes_3d"], info["gt_labels_3d"] = boxes[~ignored], labels[~ignored]
        return info


def read_lines(path: str, what: str) -> list[str]:
    """Lines of a text file that are not empty.

    Raises:
        FileNotFoundError: It is not there.
    """
    try:
        with open(path) as file:
            return [line.strip() for line in file if line.strip()]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{what} {path} is missing") from error
