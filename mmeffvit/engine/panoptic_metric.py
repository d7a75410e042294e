"""Panoptic quality by torchmetrics, where mmdet's metric needs a package that no index has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from mmeffvit.registry import METRICS

#: what each image adds, per class
_COUNTS = ("iou_sum", "true_positives", "false_positives", "false_negatives")
#: mmdet: a segment is its class plus this times its number
_INSTANCE_OFFSET = 1000


@METRICS.register_module()
class PanopticMetric(BaseMetric):
    """PQ, SQ and RQ of COCO-panoptic data (arXiv 1801.00868), in [0, 1], as `panopticapi` has them.

    Takes what mmdet's `CocoPanopticMetric` takes. Segments are matched by torchmetrics. Pixels that
    the truth does not know, crowds among them, count neither way; pixels that a prediction leaves
    out are missing from what it should have found.

    Args:
        ann_file: COCO's panoptic JSON.
        seg_prefix: Folder of its pictures.
        classwise: Whether PQ of each class is among the metrics; it is in the log anyhow.
        **kwargs: Of mmengine's `BaseMetric`.

    Raises:
        ImportError: torchmetrics is not installed.
    """

    default_prefix = "panoptic"

    def __init__(self, ann_file: str, seg_prefix: str, classwise: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        try:
            from torchmetrics.detection import PanopticQuality
        except ImportError as error:
            raise ImportError(
                "panoptic quality is computed by torchmetrics; run: pip install "
                "'mmeffvit[panoptic]'"
            ) from error
        self._make = PanopticQuality
        self.ann_file, self.seg_prefix = Path(ann_file), Path(seg_prefix)
        self.classwise = classwise
        self._segments: dict[int, dict] | None = None

    def _read(self) -> None:
        """The annotations of each image, and the classes as `CocoPanopticDataset` counts them.

        They are read when the first image comes, as made-up data may not be there before.
        """
        document = json.loads(self.ann_file.read_text())
        names = self.dataset_meta["classes"]
        categories = [entry for entry in document["categories"] if entry["name"] in names]
        self._labels = {entry["id"]: label for label, entry in enumerate(categories)}
        things = [label for label, entry in enumerate(categories) if entry["isthing"]]
        self._things = things
        self._stuff = [label for label in range(len(categories)) if label not in things]
        self._segments = {entry["image_id"]: entry for entry in document["annotations"]}

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Match the segments of some images.

        Args:
            data_batch: Not looked at.
            data_samples: mmdet's, with ``img_id`` and ``pred_panoptic_seg.sem_seg`` (1, H, W): the
                class of stuff, class + 1000 n of things, the number of classes for nothing.

        Raises:
            ValueError: An image is not in the annotations, or of another size.
        """
        if self._segments is None:
            self._read()
        for sample in data_samples:
            found = torch.as_tensor(sample["pred_panoptic_seg"]["sem_seg"])[0].cpu().long()
            truth = self._truth(sample["img_id"], found.shape)
            metric = self._metric()
            metric.update(self._pairs(found), truth)
            self.results.append([getattr(metric, name).numpy() for name in _COUNTS])

    def _metric(self, **options: bool) -> Any:
        """torchmetrics', with a class of stuff for what a prediction leaves out.

        As it is, torchmetrics ignores segments that a prediction mostly leaves out, and
        `panopticapi` counts them as missed.
        """
        return self._make(set(self._things), {*self._stuff, len(self._labels)}, **options)

    def _pairs(self, found: Tensor) -> Tensor:
        """(1, H, W, 2): class and number."""
        labels, numbers = found % _INSTANCE_OFFSET, found // _INSTANCE_OFFSET
        return torch.stack((labels.clamp_max(len(self._labels)), numbers), -1)[None]

    def _truth(self, image: int, shape: Sequence[int]) -> Tensor:
        """(1, H, W, 2): class and number, -1 where nothing is known."""
        if image not in self._segments:
            raise ValueError(f"image {image} is not among the annotations of {self.ann_file}")
        from mmeffvit.datasets.panoptic import segment_numbers  # needs mmdet

        entry = self._segments[image]
        path = self.seg_prefix / entry["file_name"]
        colours = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if colours is None or colours.shape[:2] != tuple(shape):
            given = "cannot be read" if colours is None else f"is {colours.shape[:2]}"
            raise ValueError(
                f"the segments of image {image}, {path}, {given}; the prediction is {tuple(shape)}"
            )
        ids = segment_numbers(colours[..., ::-1])  # OpenCV's order is blue, green, red
        pairs = np.full((*ids.shape, 2), -1)
        for segment in entry["segments_info"]:
            if not segment.get("iscrowd") and segment["category_id"] in self._labels:
                mask = ids == segment["id"]
                pairs[mask] = self._labels[segment["category_id"]], segment["id"]
        return torch.from_numpy(pairs)[None]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """``PQ``, ``SQ``, ``RQ``, and of things (``PQ_th`` ...) and stuff (``PQ_st`` ...) alone.

        Means over classes that are there or were predicted.
        """
        if self._segments is None:
            self._read()
        metric = self._metric(return_sq_and_rq=True, return_per_class=True)
        for name, values in zip(_COUNTS, zip(*results)):
            state = getattr(metric, name)
            setattr(metric, name, state + torch.from_numpy(np.sum(values, 0)).to(state))
        metric._update_count = max(1, len(results))  # it warns where it was not updated itself
        # torchmetrics counts things first, then stuff, and the class of what is left out last
        order = [*self._things, *self._stuff]
        table = metric.compute()  # (classes, 3)
        seen = sum(getattr(metric, name) for name in _COUNTS[1:]) > 0
        rows = {label: row for label, row, there in zip(order, table.tolist(), seen) if there}
        names = self.dataset_meta["classes"]
        metrics = {}
        for suffix, group in (("", order), ("_th", self._things), ("_st", self._stuff)):
            known = [rows[label] for label in group if label in rows]
            means = np.mean(known, 0).tolist() if known else [float("nan")] * 3
            metrics |= {f"{name}{suffix}": v for name, v in zip(("PQ", "SQ", "RQ"), means)}
        lines = [f"{names[label]:>16} {row[0]:.3f}" for label, row in sorted(rows.items())]
        print_log("\n".join(["PQ of classes:", *lines]), logger="current")
        if self.classwise:
            metrics |= {f"{names[label]}_PQ": row[0] for label, row in rows.items()}
        return metrics
