"""The digits data in the layout of ADE20K: an image and a map of labels beside one another.

Labels are counted as in ADE20K: 0 is what is not labelled and neither trained nor measured on, and
class c of the list is written as c + 1. Every loader of ADE20K undoes this (`reduce_zero_label`).
Not labelled here are crowds, whose regions cover several small digits and the gaps between them.
Everything that is no digit is a class of its own: were it 0, painting digits over the whole image
would cost nothing.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmeffvit.datasets import digits_images
from mmeffvit.datasets.digits_images import DIGITS_METAINFO
from mmeffvit.datasets.digits_scene import Instance

DIGITS_SEG_METAINFO = {
    "classes": (*DIGITS_METAINFO["classes"], "background"),
    "palette": [*map(list, DIGITS_METAINFO["palette"]), [70, 74, 80]],
}
UNLABELLED = 0
BACKGROUND = DIGITS_SEG_METAINFO["classes"].index("background")
_SPLITS = {"train": "training", "val": "validation"}


def label_map(instances: list[Instance], height: int, width: int) -> np.ndarray:
    """The labels of an image as they are stored: (H, W), uint8."""
    labels = np.full((height, width), BACKGROUND + 1, np.uint8)
    for instance in instances:
        labels[instance.mask] = UNLABELLED if instance.is_crowd else instance.digit + 1
    return labels


def write(config: dict, workers: int | None, log: Callable[[str], None], folder: Path) -> None:
    """Write ``images/`` and ``annotations/``, each with ``training/`` and ``validation/``."""
    for split, name in _SPLITS.items():
        images, annotations = folder / "images" / name, folder / "annotations" / name
        images.mkdir(parents=True)
        annotations.mkdir(parents=True)

        def draw(scans, index, split=split, images=images, annotations=annotations):
            image, instances = digits_images.draw_image(config, split, scans, index)
            stem = f"ADE_{split}_{index + 1:08d}"
            digits_images.write_image(images / f"{stem}.jpg", image)
            labels = label_map(instances, *image.shape[:2])
            digits_images.write_image(annotations / f"{stem}.png", labels)

        digits_images.draw_split(split, config[f"num_{split}"], draw, workers, log)
