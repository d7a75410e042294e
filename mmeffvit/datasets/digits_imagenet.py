"""The digits data in the layout of ImageNet-1K: a folder per class, one digit in each image.

Textures, clutter and scans are those of the scenes, whose validation scans are kept apart here,
too. As objects do in ImageNet, a digit takes most of its image: at 64 pixels it is as large as the
larger ones in scenes of 160. Every second image for training is plain, without texture and clutter:
it shows what a digit is, which cluttered images alone take long to teach.

Folders have the WordNet identifiers of ImageNet-1K's first ten classes, and ``meta`` holds the
lists of files with labels by which mmpretrain knows that there are a thousand.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmeffvit.datasets import digits_images, digits_scene

#: folder of digit d: tench, goldfish, three sharks, electric ray, stingray, cock, hen, ostrich
WNIDS = (
    "n01440764",
    "n01443537",
    "n01484850",
    "n01491361",
    "n01494475",
    "n01496331",
    "n01498041",
    "n01514668",
    "n01514859",
    "n01518878",
)
DIGIT_SIZES = (0.7, 0.9)
# another stream of chance than that of the scenes
_STREAM = 1000


def draw_image(
    config: dict,
    split: str,
    scans: tuple[np.ndarray, np.ndarray, np.ndarray],
    index: int,
) -> tuple[np.ndarray, int]:
    """Draw one image of a split; it depends on nothing but the arguments.

    Args:
        config: With ``seed`` and ``image_size``, see :func:`mmeffvit.datasets.ensure_digits`.
        split: ``'train'`` or ``'val'``.
        scans: Of :func:`mmeffvit.datasets.digits_images.load_scans`.
        index: Number of the image in its split.

    Returns:
        The image (H, W, 3), uint8, in BGR order, and the digit in it.
    """
    rng = np.random.default_rng([config["seed"], _STREAM + ("train", "val").index(split), index])
    draw = functools.partial(
        digits_scene.draw_scene,
        rng,
        *scans,
        *config["image_size"],
        max_digits=1,
        with_crowd=False,
        digit_sizes=DIGIT_SIZES,
        plain=split == "train" and index % 2 == 0,
    )
    image, instances = draw()
    while not instances:  # no place was found
        image, instances = draw()
    return image, instances[0].digit


def write(config: dict, workers: int | None, log: Callable[[str], None], folder: Path) -> None:
    """Write ``train/``, ``val/`` and ``meta/``."""
    (folder / "meta").mkdir()
    for split in ("train", "val"):
        images = folder / split
        for wnid in WNIDS:
            (images / wnid).mkdir(parents=True)

        def draw(scans, index, split=split, images=images) -> str:
            image, digit = draw_image(config, split, scans, index)
            wnid = WNIDS[digit]
            stem = f"{wnid}_{index + 1}" if split == "train" else f"ILSVRC2012_val_{index + 1:08d}"
            digits_images.write_image(images / wnid / f"{stem}.JPEG", image)
            return f"{wnid}/{stem}.JPEG {digit}\n"

        lines = digits_images.draw_split(split, config[f"num_{split}"], draw, workers, log)
        (folder / "meta" / f"{split}.txt").write_text("".join(lines))
