"""Metrics of point clouds: labels of points, and boxes in space."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from mmeffvit.ops.points import (
    bev_boxes,
    greedy_matches,
    near_pairs,
    rotated_iou,
    rotated_iou_3d,
)
from mmeffvit.registry import METRICS

#: overlap from which KITTI and Waymo count a detection, both spaces
_IOU_THRS = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}


@METRICS.register_module()
class PointSegMetric(BaseMetric):
    """Mean IoU, mean accuracy of classes and overall accuracy of labelled points.

    What a sample adds is three counts per class.

    Args:
        ignore_index: Label of points that are not looked at.
        style: 'pointcept' as the authors of point transformers count, ConDaFormer's (2312.11112)
            among them: ``mIoU``, ``mAcc`` and ``allAcc``, in which a class that is not there counts
            as 0. 'mmdet3d' as mmdet3d does: IoU per class under its name, and ``miou``, ``acc``
            (overall) and ``acc_cls``, means over the classes that are there.
        **kwargs: Of mmengine's `BaseMetric`.

    Raises:
        ValueError: The style is another.
    """

    def __init__(self, ignore_index: int = 255, style: str = "pointcept", **kwargs):
        super().__init__(**kwargs)
        if style not in ("pointcept", "mmdet3d"):
            raise ValueError(f"style must be 'pointcept' or 'mmdet3d', got '{style}'")
        self.ignore_index = ignore_index
        self.style = style

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Count the points of some samples.

        Args:
            data_batch: Not looked at.
            data_samples: Each with ``pred_pts_seg.pts_semantic_mask`` and
                ``eval_ann_info['pts_semantic_mask']``, or else ``gt_pts_seg.pts_semantic_mask``.

        Raises:
            ValueError: There are not as many predictions as labels, or labels of no class.
        """
        for sample in data_samples:
            predicted = torch.as_tensor(sample["pred_pts_seg"]["pts_semantic_mask"])
            truth = sample.get("eval_ann_info") or {}
            if "pts_semantic_mask" not in truth:
                truth = sample.get("gt_pts_seg") or {}
            if "pts_semantic_mask" not in truth:
                self.results.append(None)
                continue
            labels = torch.as_tensor(truth["pts_semantic_mask"], device=predicted.device)
            self.results.append(self._count(predicted.flatten(), labels.flatten()).cpu().numpy())

    def _count(self, predicted: Tensor, labels: Tensor) -> Tensor:
        """(3, classes): points that are right, that are labelled, and that are predicted."""
        if predicted.shape != labels.shape:
            raise ValueError(
                f"there are {len(predicted)} predictions for {len(labels)} points; predictions "
                "are to be brought from voxels to raw points before they are measured"
            )
        classes = len(self.dataset_meta["classes"])
        known = labels != self.ignore_index
        predicted, labels = predicted[known].long(), labels[known].long()
        for what, values in (("label", labels), ("prediction", predicted)):
            strange = _no_class(values, classes)
            if len(strange):
                raise ValueError(
                    f"{len(strange)} points have a {what} that is none of {classes} classes, such "
                    f"as {int(strange[0])}; ignore_index is {self.ignore_index}"
                )
        counted = (labels[predicted == labels], labels, predicted)
        return torch.stack([torch.bincount(values, minlength=classes) for values in counted])

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """The metrics of all samples, in [0, 1]; a table per class goes to the log.

        Without labels there are none.

        Raises:
            ValueError: There was no sample, or only some have labels.
        """
        if not _have_labels(results):
            return {}
        right, labelled, predicted = np.sum(results, axis=0)
        union = labelled + predicted - right
        tiny = 1e-10
        if self.style == "pointcept":
            iou, recall = right / (union + tiny), right / (labelled + tiny)
            means = {"mIoU": iou.mean(), "mAcc": recall.mean()}
            means["allAcc"] = right.sum() / (labelled.sum() + tiny)
        else:
            iou, recall = _shares(right, union), _shares(right, labelled)
            means = dict(zip(self.dataset_meta["classes"], iou))
            means["miou"] = _mean(iou)
            means["acc"] = _shares(right.sum(), labelled.sum())
            means["acc_cls"] = _mean(recall)
        rows = zip(self.dataset_meta["classes"], iou, recall, labelled)
        print_log("\n" + _table(("class", "IoU", "Acc", "points"), rows), logger="current")
        return {name: float(value) for name, value in means.items()}


@METRICS.register_module()
class PointDetMetric(BaseMetric):
    """Average precision of rotated boxes, in space and from above.

    Precision at recalls 1/40, 2/40 ... 1, as KITTI measures since 2019, each the best that is
    reached at that recall or above; detections of one score count together. Per sample and class,
    detections by falling score take the free object that they overlap most, if by the threshold at
    least: others of the same object are false. What overlaps only an ignored object counts neither
    way.

    Keys are ``AP_3d`` and ``AP_bev``, means over the classes that have objects, and
    ``{class}_AP_3d`` and ``{class}_AP_bev`` (NaN for a class without), all in [0, 1].

    Args:
        iou_thrs: Class -> overlap; classes that are not given have those of KITTI and Waymo: 0.7
            for Car, 0.5 for Pedestrian and Cyclist.
        bev_iou_thrs: The same seen from above, where not `iou_thrs`.
        point_cloud_range: (x, y, z, x, y, z); objects whose centre lies outside are ignored, as a
            detector with this range cannot see them. None for all.
        **kwargs: Of mmengine's `BaseMetric`.

    Raises:
        ValueError: An overlap is not in (0, 1].
    """

    def __init__(
        self,
        iou_thrs: Mapping[str, float] | None = None,
        bev_iou_thrs: Mapping[str, float] | None = None,
        point_cloud_range: Sequence[float] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        iou_thrs = {**_IOU_THRS, **(iou_thrs or {})}
        self.iou_thrs = {"3d": iou_thrs, "bev": {**iou_thrs, **(bev_iou_thrs or {})}}
        for space, thresholds in self.iou_thrs.items():
            for name, threshold in thresholds.items():
                if not 0 < threshold <= 1:
                    raise ValueError(f"{space} IoU for {name} must be in (0, 1], got {threshold}")
        self.point_cloud_range = point_cloud_range

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Match the boxes of some samples.

        Args:
            data_batch: Not looked at.
            data_samples: Each with ``pred_instances_3d`` (``bboxes_3d`` (k, 7 or 9), z at the
                bottom, ``scores_3d``, ``labels_3d``) and ``eval_ann_info`` with ``gt_bboxes_3d``
                (n, 7 or 9), ``gt_labels_3d`` (n) and, if some objects are to be ignored,
                ``gt_ignore`` (n) bool; without labels it is not measured. Boxes may be mmdet3d's.

        Raises:
            ValueError: Labels are of no class, or there is no threshold for one.
        """
        for sample in data_samples:
            found, truth = sample["pred_instances_3d"], sample.get("eval_ann_info") or {}
            if "gt_bboxes_3d" not in truth:
                self.results.append(None)
                continue
            boxes, objects = _boxes(found["bboxes_3d"]), _boxes(truth["gt_bboxes_3d"])
            scores = torch.as_tensor(found["scores_3d"]).detach().cpu().double()
            labels = torch.as_tensor(found["labels_3d"]).cpu().long()
            classes = torch.as_tensor(truth["gt_labels_3d"]).cpu().long()
            ignored = torch.zeros(len(objects), dtype=torch.bool)
            if truth.get("gt_ignore") is not None:
                ignored |= torch.as_tensor(truth["gt_ignore"]).cpu().bool()
            if self.point_cloud_range is not None:
                limits = objects.new_tensor(self.point_cloud_range)
                inside = (objects[:, :3] >= limits[:3]) & (objects[:, :3] <= limits[3:])
                ignored |= ~inside.all(1)
            self.results.append(self._match(boxes, scores, labels, objects, classes, ignored))

    def _match(
        self,
        boxes: Tensor,
        scores: Tensor,
        labels: Tensor,
        objects: Tensor,
        classes: Tensor,
        ignored: Tensor,
    ) -> dict[str, np.ndarray]:
        """What a sample adds: scores and labels, whether they are right, objects per class."""
        names = self.dataset_meta["classes"]
        for what, values in (("objects", classes[~ignored]), ("detections", labels)):
            strange = _no_class(values, len(names))
            if len(strange):
                raise ValueError(
                    f"labels of {what} must be those of {len(names)} classes, got {int(strange[0])}"
                )
        order = scores.argsort(descending=True, stable=True)
        boxes, scores, labels = boxes[order], scores[order], labels[order]
        rows, cols = near_pairs(bev_boxes(boxes), bev_boxes(objects))
        same = labels[rows] == classes[cols]
        rows, cols = rows[same], cols[same]
        result = {
            "scores": scores.numpy().astype(np.float32),
            "labels": labels.numpy().astype(np.int16),
            "objects": torch.bincount(classes[~ignored], minlength=len(names)).numpy(),
        }
        overlaps = {
            "3d": rotated_iou_3d(boxes[rows], objects[cols]),
            "bev": rotated_iou(bev_boxes(boxes[rows]), bev_boxes(objects[cols])),
        }
        for space, overlap in overlaps.items():
            thresholds = overlap.new_tensor([self._threshold(space, name) for name in names])
            # 1e-9 for what is equal but for rounding
            enough = overlap >= thresholds[classes[cols]] - 1e-9
            result[space] = _assign(
                rows[enough], cols[enough], overlap[enough], ignored, len(boxes)
            ).numpy()
        return result

    def _threshold(self, space: str, name: str) -> float:
        if name not in self.iou_thrs[space]:
            raise ValueError(f"there is no overlap for {name}; give iou_thrs=dict({name}=...)")
        return self.iou_thrs[space][name]

    def compute_metrics(self, results: list[dict[str, np.ndarray]]) -> dict[str, float]:
        """The metrics of all samples; a table per class goes to the log.

        Without labels there are none.

        Raises:
            ValueError: There was no sample, or only some have labels.
        """
        if not _have_labels(results):
            return {}
        names = self.dataset_meta["classes"]
        labels, scores = (np.concatenate([r[k] for r in results]) for k in ("labels", "scores"))
        objects = np.sum([r["objects"] for r in results], axis=0)
        values: dict[str, list[float]] = {}
        for space in ("3d", "bev"):
            status = np.concatenate([r[space] for r in results])
            values[space] = [
                _average_precision(scores[of_class], status[of_class], count)
                for label, count in enumerate(objects)
                for of_class in [(labels == label) & (status >= 0)]
            ]
        detections = np.bincount(labels, minlength=len(names))
        rows = zip(names, values["3d"], values["bev"], objects, detections)
        header = ("class", "AP_3d", "AP_bev", "objects", "detections")
        print_log("\n" + _table(header, rows), logger="current")
        metrics = {f"AP_{space}": _mean(aps) for space, aps in values.items()}
        for space, aps in values.items():
            metrics.update({f"{name}_AP_{space}": ap for name, ap in zip(names, aps)})
        return metrics


def _have_labels(results: Sequence) -> bool:
    """Whether there is something to measure; samples without labels have left None."""
    if not results:
        raise ValueError("no sample was measured: the data set for validation is empty")
    without = sum(result is None for result in results)
    if 0 < without < len(results):
        raise ValueError(f"{without} of {len(results)} samples have no labels; all have, or none")
    if without:
        print_log("Nothing was measured: the data has no labels", logger="current")
    return not without


def _no_class(labels: Tensor, classes: int) -> Tensor:
    """Those of the labels that are none of so many classes."""
    return labels[(labels < 0) | (labels >= classes)]


def _boxes(boxes: Any) -> Tensor:
    """(n, 7) float64, z from the bottom to the middle."""
    boxes = torch.as_tensor(getattr(boxes, "tensor", boxes)).detach().cpu().double()
    boxes = boxes.reshape(len(boxes), -1)[:, :7] if len(boxes) else boxes.new_zeros(0, 7)
    if boxes.shape[1] != 7:
        raise ValueError(
            "boxes must be (n, 7 or more), (x, y, z, dx, dy, dz, yaw), got "
            f"{boxes.shape[1]} columns"
        )
    boxes = boxes.clone()
    boxes[:, 2] += boxes[:, 5] / 2
    return boxes


def _assign(rows: Tensor, cols: Tensor, overlap: Tensor, ignored: Tensor, count: int) -> Tensor:
    """(count) int8 per detection: 1 right, 0 false, -1 not counted.

    Args:
        rows: (P) detections of pairs that overlap enough, numbered by falling score.
        cols: (P) objects of the pairs.
        overlap: (P) of the pairs.
        ignored: (n) objects that do not count.
        count: Detections.
    """
    status = torch.zeros(count, dtype=torch.int8)
    near_ignored = ignored[cols]
    status[rows[near_ignored]] = -1
    real = ~near_ignored
    status[greedy_matches(rows[real], cols[real], overlap[real], count) >= 0] = 1
    return status


def _average_precision(
    scores: np.ndarray, right: np.ndarray, objects: int, points: int = 40
) -> float:
    """Mean of the precision at `points` recalls; NaN without objects."""
    if objects == 0:
        return math.nan
    if len(scores) == 0:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    # a threshold keeps all detections of one score, or none
    last = np.append(scores[1:] != scores[:-1], True)
    true = np.cumsum(right)[last]
    precision = true / (np.flatnonzero(last) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    # recall >= k / points, in whole numbers
    wanted = -(-np.arange(1, points + 1) * objects // points)
    first = np.searchsorted(true, wanted)
    return float(np.append(best, 0.0)[first].mean())


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole; NaN of nothing."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean(values: Sequence[float]) -> float:
    """Mean of what is a number; NaN if nothing is."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Columns of text: names to the left, numbers to the right, shares in per cent."""
    lines = [header, *([name, *map(_cell, values)] for name, *values in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )


def _cell(value: float) -> str:
    if isinstance(value, (int, np.integer)):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.2%}"
