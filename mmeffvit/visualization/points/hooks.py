"""Hooks that draw while a model of point clouds is trained or tested."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from mmeffvit.datasets.points.rooms.files import IGNORE_INDEX, read_room
from mmeffvit.registry import HOOKS
from mmeffvit.visualization.figures_hook import FiguresHook
from mmeffvit.visualization.points.rooms import RoomExample, draw_room_sheet, make_palette
from mmeffvit.visualization.points.sweeps import Boxes, SweepExample, draw_sweep_sheet


@HOOKS.register_module()
class PointSegFiguresHook(FiguresHook):
    """Predicted classes of rooms beside the true ones, and curves.

    Rooms are shown from two opposite corners, in their colours, with true and with predicted
    classes. Points and colours are those of the room's file.

    Args:
        num_images: Rooms on the contact sheet, drawn by lot.
        panel: Width of each picture in pixels.
        **kwargs: As of :class:`FiguresHook`.
    """

    scores: ClassVar = {"mIoU": "mIoU", "mAcc": "mAcc", "allAcc": "accuracy of points"}
    path_key: ClassVar = "lidar_path"
    noun: ClassVar = "rooms"

    def __init__(self, num_images: int = 3, *, panel: int = 320, **kwargs: Any) -> None:
        super().__init__(num_images, panel=panel, **kwargs)

    def _draw(self, samples: list, metainfo: dict, **texts: Any) -> Image.Image:
        examples = [to_room_example(sample) for sample in samples]
        classes = metainfo["classes"]
        palette = metainfo.get("palette") or make_palette(len(classes))
        return draw_room_sheet(examples, classes, palette, **texts)


@HOOKS.register_module()
class PointDetFiguresHook(FiguresHook):
    """Predicted boxes in sweeps beside the true ones, from above, and curves.

    Args:
        num_images: Sweeps on the contact sheet, drawn by lot from those that hold objects.
        score_thr: Predictions below are not drawn.
        iou_thr: Overlap from above at which a box counts as found.
        bounds: Least x and y, largest x and y of what is drawn, in metres; by default what the
            points need.
        **kwargs: As of :class:`FiguresHook`.
    """

    scores: ClassVar = {"AP_3d": "AP in space", "AP_bev": "AP from above"}
    path_key: ClassVar = "lidar_path"
    noun: ClassVar = "sweeps"

    def __init__(
        self,
        num_images: int = 6,
        *,
        score_thr: float = 0.3,
        iou_thr: float = 0.3,
        bounds: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_images, **kwargs)
        self.options = {"score_thr": score_thr, "iou_thr": iou_thr, "bounds": bounds}

    def _has_something(self, info: dict) -> bool:
        return len(info.get("gt_labels_3d", ())) > 0

    def _take(self, sample: Any, data_batch: dict, index: int) -> SweepExample:
        # the points as the model saw them: a file alone does not say how many columns it has
        return to_sweep_example(sample, data_batch["inputs"]["points"][index])

    def _draw(self, samples: list, metainfo: dict, **texts: Any) -> Image.Image:
        return draw_sweep_sheet(samples, metainfo["classes"], **self.options, **texts)


def to_room_example(sample: Any) -> RoomExample:
    """A room with its true and its predicted classes, from a data sample.

    Args:
        sample: With ``lidar_path``, ``pred_pts_seg``, and ``eval_ann_info`` or ``gt_pts_seg``;
            without the last two, nothing counts as labelled.

    Raises:
        ValueError: The room has not as many points as there are predictions.
    """
    room = read_room(sample.lidar_path)
    points = np.asarray(room["coord"], float)
    prediction = np.asarray(sample.pred_pts_seg.pts_semantic_mask)
    truth = (sample.get("eval_ann_info") or {}).get("pts_semantic_mask")
    if truth is None and sample.get("gt_pts_seg") is not None:
        truth = sample.gt_pts_seg.get("pts_semantic_mask")
    truth = np.full(len(prediction), IGNORE_INDEX) if truth is None else np.asarray(truth)
    if not len(points) == len(prediction) == len(truth):
        raise ValueError(
            f"{len(prediction)} predictions and {len(truth)} labels are not one for each of the "
            f"{len(points)} points of {sample.lidar_path}; a pipeline for validation must keep "
            "all points, or bring predictions back to them"
        )
    grey = np.full(points.shape, 170.0)
    colours = np.asarray(room.get("color", grey), float)
    path = Path(sample.lidar_path)
    return RoomExample(points, colours, truth, prediction, f"{path.parent.name}/{path.stem}")


def to_sweep_example(sample: Any, points: torch.Tensor) -> SweepExample:
    """A sweep with what is in it and what was found, from a data sample.

    Args:
        sample: With ``lidar_path``, ``pred_instances_3d``, and ``eval_ann_info`` or
            ``gt_instances_3d``.
        points: (N, 3 or more).
    """
    truth, ignored = sample.get("eval_ann_info") or {}, None
    if "gt_bboxes_3d" in truth:
        boxes = to_boxes(truth["gt_bboxes_3d"], truth["gt_labels_3d"])
        ignored = truth.get("gt_ignore")
    elif sample.get("gt_instances_3d") is not None:
        boxes = to_boxes(sample.gt_instances_3d.bboxes_3d, sample.gt_instances_3d.labels_3d)
    else:
        boxes = Boxes(np.zeros((0, 7)), np.zeros(0, int))
    found = sample.pred_instances_3d
    return SweepExample(
        points=points.detach().cpu().numpy(),
        truth=boxes,
        prediction=to_boxes(found.bboxes_3d, found.labels_3d, found.scores_3d),
        name=Path(sample.lidar_path).stem,
        ignored=ignored,
    )


def to_boxes(boxes: Any, labels: Any, scores: Any = None) -> Boxes:
    """Arrays on the CPU; `boxes` may be mmdet3d's, and have velocities."""
    boxes = np.asarray(getattr(boxes, "tensor", boxes), float)
    boxes = boxes.reshape(len(boxes), -1)[:, :7] if len(boxes) else np.zeros((0, 7))
    labels = np.asarray(labels).astype(int)
    return Boxes(boxes, labels, None if scores is None else np.asarray(scores, float))
