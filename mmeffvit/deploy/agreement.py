"""An exported file beside the model it is of, on real boxes, masks, label maps and scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mmeffvit.runtime import OnnxModel, in_image

#: pixels of a box, a score, and the least share of what must agree
BOX, SCORE, SHARE = 1e-3, 1e-4, 0.999
#: detections that score less are not compared
LEAST_SCORE = 0.05


@dataclass
class Agreement:
    """What was compared.

    Attributes:
        compared: How many detections above `LEAST_SCORE`, pixels, or scores.
        agreeing: How many of them are alike.
        images: On how many images.
        worst: Largest difference in what agrees: pixels of boxes, or of scores.
        mask_pixels: Share of mask pixels that are alike, of boxes that agree; 1 without masks.
    """

    compared: int = 0
    agreeing: int = 0
    images: int = 0
    worst: float = 0.0
    mask_pixels: float = 1.0

    @property
    def share(self) -> float:
        """1 if nothing was found on either side."""
        return self.agreeing / self.compared if self.compared else 1.0

    @property
    def good(self) -> bool:
        """Whether the file may stand for the model."""
        return min(self.share, self.mask_pixels) >= SHARE


def compare(model: nn.Module, exported: OnnxModel, images: Iterable[np.ndarray]) -> Agreement:
    """Run both on images, and count what agrees.

    The model predicts as its toolbox does it (``test_step``), without a form of ours.

    Args:
        model: In evaluation mode, on the CPU.
        exported: Its file; exported with ``inside='pixels'``.
        images: (H, W, C) uint8 each.
    """
    result = Agreement()
    alike: list[float] = []
    for image in images:
        outputs = exported.run(image.transpose(2, 0, 1)[None])
        expected = predict(model, image)
        _COUNT[exported.kind](result, expected, {k: v[0] for k, v in outputs.items()}, alike)
        result.images += 1
    if alike:
        result.mask_pixels = float(np.mean(alike))
    return result


@torch.no_grad()
def predict(model: nn.Module, image: np.ndarray) -> dict[str, np.ndarray]:
    """What a model of a toolbox predicts on an image (H, W, C) as it is, without resizing it."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    height, width = image.shape[:2]
    shape = {"img_shape": (height, width), "ori_shape": (height, width), "scale_factor": (1.0, 1.0)}
    if not hasattr(model, "test_step"):  # a classifier of ours
        return {"scores": model(pixels[None].float()).softmax(1)[0].numpy()}
    scope = type(model).__module__.partition(".")[0]
    sample = _data_sample(scope)(metainfo=shape)
    (found,) = model.test_step({"inputs": [pixels], "data_samples": [sample]})
    if scope == "mmseg":
        return {"label_map": found.pred_sem_seg.data[0].numpy()}
    if scope == "mmpretrain":
        return {"scores": found.pred_score.numpy()}
    boxes = found.pred_instances
    names = {"boxes": "bboxes", "scores": "scores", "labels": "labels", "masks": "masks"}
    return {k: np.asarray(boxes[v]) for k, v in names.items() if v in boxes}


def _data_sample(scope: str) -> Callable:
    if scope == "mmdet":
        from mmdet.structures import DetDataSample

        return DetDataSample
    if scope == "mmseg":
        from mmseg.structures import SegDataSample

        return SegDataSample
    from mmpretrain.structures import DataSample

    return DataSample


_Outputs = Mapping[str, np.ndarray]


def _count_boxes(
    result: Agreement, expected: _Outputs, actual: _Outputs, alike: list[float]
) -> None:
    there = expected["scores"] > LEAST_SCORE
    here = np.flatnonzero(actual["scores"] > LEAST_SCORE)
    result.compared += max(int(there.sum()), len(here))
    free = np.ones(len(here), bool)
    for index in np.flatnonzero(there):
        box = np.abs(actual["boxes"][here] - expected["boxes"][index]).max(-1, initial=0)
        score = np.abs(actual["scores"][here] - expected["scores"][index])
        same = actual["labels"][here] == expected["labels"][index]
        fits = np.flatnonzero(free & same & (box <= BOX) & (score <= SCORE))
        if not len(fits):
            continue
        best = fits[box[fits].argmin()]
        free[best] = False
        result.agreeing += 1
        result.worst = max(result.worst, float(box[best]))
        if "masks" in expected and "masks" in actual:
            mask = expected["masks"][index]
            mine = (part[here[best]] for part in (actual["masks"], actual["boxes"]))
            alike.append(float((in_image(*mine, mask.shape, 0.5) == mask).mean()))


def _count_pixels(
    result: Agreement, expected: _Outputs, actual: _Outputs, alike: list[float]
) -> None:
    result.compared += expected["label_map"].size
    result.agreeing += int((expected["label_map"] == actual["label_map"]).sum())


def _count_scores(
    result: Agreement, expected: _Outputs, actual: _Outputs, alike: list[float]
) -> None:
    apart = np.abs(expected["scores"] - actual["scores"])
    result.compared += apart.size
    result.agreeing += int((apart <= SCORE).sum())
    result.worst = max(result.worst, float(apart.max()))


_COUNT = {"boxes": _count_boxes, "label map": _count_pixels, "classes": _count_scores}


def made_up_images(count: int, sides: tuple[int, int], channels: int = 3) -> list[np.ndarray]:
    """Smooth noise, (H, W, C) uint8, of sizes between `sides` of which hardly two are equal."""
    random = np.random.default_rng(0)
    images = []
    for _ in range(count):
        height, width = random.integers(sides[0], sides[1] + 1, 2)
        coarse = torch.from_numpy(random.random((1, channels, 7, 9), dtype=np.float32))
        smooth = nn.functional.interpolate(coarse, (int(height), int(width)), mode="bicubic")
        images.append((smooth[0].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy())
    return images
