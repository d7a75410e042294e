"""Two exported files of one model: how often they find the same, and how long each takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmeffvit.runtime import OnnxModel

#: detections of a score above the first are the same if they overlap by more than the second
SCORE, OVERLAP = 0.3, 0.5


@dataclass
class Likeness:
    """What two files find.

    Attributes:
        compared: Detections of either that score above `SCORE`, pixels, or images.
        alike: Detections of one class that overlap by more than `OVERLAP`, pixels of one class, or
            images of one class.
        milliseconds: Of the first and the second file, per image, in turn; the least of all rounds,
            averaged over images.
    """

    compared: int
    alike: int
    milliseconds: tuple[float, float]

    def __str__(self) -> str:
        share = self.alike / self.compared if self.compared else 1.0
        before, after = self.milliseconds
        return (
            f"alike: {self.alike} of {self.compared} ({share:.1%}); "
            f"time per image: {before:.1f} -> {after:.1f} ms"
        )


def liken(
    first: OnnxModel, second: OnnxModel, images: Sequence[np.ndarray], rounds: int = 3
) -> Likeness:
    """Compare two files of one model on prepared images (H, W, C) uint8."""
    compared = alike = 0
    total = np.zeros(2)
    for image in images:
        batch = image.transpose(2, 0, 1)[None]
        times, outputs = np.full((rounds, 2), np.inf), [{}, {}]
        for turn in range(rounds):
            for index, model in enumerate((first, second)):
                start = time.perf_counter()
                outputs[index] = model.run(batch)
                times[turn, index] = time.perf_counter() - start
        total += times.min(0)
        there, same = _COUNT[first.kind](*outputs)
        compared, alike = compared + there, alike + same
    before, after = (total / max(1, len(images)) * 1e3).tolist()
    return Likeness(compared, alike, (before, after))


_Outputs = Mapping[str, np.ndarray]


def _boxes(one: _Outputs, two: _Outputs) -> tuple[int, int]:
    """A pair counts once for each side, as what only one side finds does."""
    from torchvision.ops import box_iou

    chosen = [np.flatnonzero(found["scores"][0] > SCORE) for found in (one, two)]
    boxes, labels = (
        [found[name][0, index] for found, index in zip((one, two), chosen)]
        for name in ("boxes", "labels")
    )
    overlaps = box_iou(*map(torch.from_numpy, boxes)).numpy()
    fits = (overlaps > OVERLAP) & (labels[0][:, None] == labels[1])
    return sum(map(len, chosen)), int(fits.any(0).sum() + fits.any(1).sum())


def _pixels(one: _Outputs, two: _Outputs) -> tuple[int, int]:
    return one["label_map"].size, int((one["label_map"] == two["label_map"]).sum())


def _classes(one: _Outputs, two: _Outputs) -> tuple[int, int]:
    best = [found["scores"].argmax(1) for found in (one, two)]
    return len(best[0]), int((best[0] == best[1]).sum())


_COUNT = {"boxes": _boxes, "label map": _pixels, "classes": _classes}
