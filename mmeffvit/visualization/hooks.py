"""Hooks that draw while a detector or a segmentor is trained or tested."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from mmeffvit.registry import HOOKS
from mmeffvit.visualization.contact_sheet import Example, Objects, draw_contact_sheet
from mmeffvit.visualization.figures_hook import FiguresHook
from mmeffvit.visualization.files import save_picture
from mmeffvit.visualization.masks import CroppedMasks
from mmeffvit.visualization.named_images import NamedImages
from mmeffvit.visualization.pixels import keep_inputs, picture_of
from mmeffvit.visualization.segmentation import (
    UNLABELLED,
    LabelledExample,
    draw_label_maps,
    draw_segmentation_sheet,
    palette_of,
)


@HOOKS.register_module()
class DetectionFiguresHook(FiguresHook):
    """Predictions of a detector beside the truth, and curves; see the parent for all about them.

    Works for every mmdet detector whose test pipeline loads annotations, as mmdet's own do. Images
    without any object are not shown.

    Args:
        score_thr: Predictions below are not drawn.
        **kwargs: As of :class:`FiguresHook`.
    """

    scores: ClassVar = {"bbox_mAP": "box AP", "segm_mAP": "mask AP"}

    def __init__(self, *, score_thr: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score_thr = score_thr

    def _has_something(self, info: dict) -> bool:
        # images without any object have little to show
        return bool(info.get("instances"))

    def _draw(self, samples: list, metainfo: dict, **texts: Any) -> Image.Image:
        examples = [to_example(sample) for sample in samples]
        return draw_contact_sheet(examples, metainfo["classes"], score_thr=self.score_thr, **texts)


@HOOKS.register_module()
class SegmentationFiguresHook(FiguresHook):
    """Predictions of a segmentor beside the truth, and curves; arguments are the parent's.

    Works for every mmseg segmentor whose test pipeline loads annotations, as mmseg's own do.
    """

    scores: ClassVar = {"mIoU": "mIoU"}

    def _draw(self, samples: list, metainfo: dict, **texts: Any) -> Image.Image:
        examples = [to_labelled_example(sample) for sample in samples]
        palette = palette_of(metainfo)
        return draw_segmentation_sheet(examples, metainfo["classes"], palette, **texts)


class PicturesHook(NamedImages, Hook):
    """Draw every test image into a file of its own.

    A picture has the name of its image, with its folder where several images share a name. What
    cannot be drawn is a warning.

    Args:
        out_dir: Gets the pictures.
    """

    def __init__(self, out_dir: str) -> None:
        super().__init__()
        self.out_dir = Path(out_dir)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None
    ) -> None:
        """Draw the images of a batch."""
        for index, sample in enumerate(outputs or ()):
            path = Path(sample.get("img_path") or f"{batch_idx}_{index}")
            with self._attempt(runner, f"the picture of {path}"):
                sample = sample.cpu()
                keep_inputs(sample, data_batch, index)
                self._draw(runner, sample, self.out_dir / f"{self._name(path)}.png")

    def _draw(self, runner: Runner, sample: Any, file: Path) -> None:
        """Write the picture of a data sample, which is on the CPU and carries its image."""
        raise NotImplementedError


@HOOKS.register_module()
class SegmentationPicturesHook(PicturesHook):
    """Draw every test image of an mmseg segmentor: ground truth and prediction side by side.

    The argument is the parent's.
    """

    def _draw(self, runner: Runner, sample: Any, file: Path) -> None:
        metainfo = runner.test_dataloader.dataset.metainfo
        example = to_labelled_example(sample)
        maps = {"Ground truth": example.truth, "Prediction": example.prediction}
        if "gt_sem_seg" not in sample:
            del maps["Ground truth"]
        picture = draw_label_maps(example.image, maps, metainfo["classes"], palette_of(metainfo))
        save_picture(picture, file)


def to_labelled_example(sample) -> LabelledExample:
    """An image with its true and its predicted classes, from mmseg's `SegDataSample`.

    Args:
        sample: With ``img_path``, ``pred_sem_seg``, and ``gt_sem_seg`` in the size of the original
            image; without the last, nothing counts as labelled. The image is that which the sample
            carries (see :func:`mmeffvit.visualization.pixels.keep_inputs`), or else the file's.
    """
    prediction = label_map(sample.pred_sem_seg)
    image = picture_of(sample)
    if image.shape[:2] != prediction.shape:
        image = cv2.resize(image, prediction.shape[::-1])
    truth = np.full(prediction.shape, UNLABELLED)
    if "gt_sem_seg" in sample:
        truth = label_map(sample.gt_sem_seg).reshape(prediction.shape)
    return LabelledExample(image, truth, prediction, Path(sample.img_path).name)


def label_map(data) -> np.ndarray:
    """Classes (H, W), whole numbers, of mmseg's `PixelData` on the CPU.

    Heads with one output channel give theirs as floats.
    """
    labels = np.asarray(data.data)
    labels = labels if np.issubdtype(labels.dtype, np.integer) else labels.astype(np.int64)
    return labels.reshape(labels.shape[-2:])


def to_example(sample) -> Example:
    """An image with what is in it and what was found, from mmdet's `DetDataSample`.

    Args:
        sample: With ``img_path``, ``pred_instances``, and ``gt_instances`` and
            ``ignored_instances`` in the size of the original image. The image is that which the
            sample carries, or else the file's.
    """
    image = picture_of(sample)
    return Example(
        image=image,
        truth=_truth(sample, image.shape[:2]),
        prediction=to_objects(sample.pred_instances, image.shape[:2]),
        name=Path(sample.img_path).name,
    )


def _truth(sample, shape: tuple[int, int]) -> Objects:
    parts = [
        to_objects(sample.get(name), shape)
        for name in ("gt_instances", "ignored_instances")
        if sample.get(name) is not None
    ]
    if not parts:
        return Objects(np.zeros((0, 4)), np.zeros(0, int))
    crowd = np.concatenate([np.full(len(part), index > 0) for index, part in enumerate(parts)])
    masks = [part.masks for part in parts]
    return Objects(
        boxes=np.concatenate([part.boxes for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        masks=None if any(m is None for m in masks) else np.concatenate(masks),
        crowd=crowd,
    )


def to_objects(instances, shape: tuple[int, int]) -> Objects:
    """mmdet's `InstanceData` on the CPU, in an image of `shape` (height, width), as arrays."""
    boxes = instances.bboxes
    boxes = getattr(boxes, "tensor", boxes)
    masks = instances.get("masks")
    if masks is not None and not isinstance(masks, CroppedMasks):
        masks = masks.to_ndarray() if hasattr(masks, "to_ndarray") else np.asarray(masks)
        masks = masks.astype(bool).reshape(-1, *shape)
    scores = instances.get("scores")
    return Objects(
        boxes=np.asarray(boxes, float).reshape(-1, 4),
        labels=np.asarray(instances.labels, int),
        masks=masks,
        scores=None if scores is None else np.asarray(scores, float),
    )
