"""Digits in drawn scenes, and digits on photographs, as a poor camera takes them: two domains."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from mmeffvit.demo_data.digits import scenes
from mmeffvit.demo_data.digits.images import Scans, draw_split, write_image
from mmeffvit.demo_data.digits.layouts import label_map
from mmeffvit.demo_data.digits.segmentation import DigitsSegDataset
from mmeffvit.demo_data.folders import ensure_data
from mmeffvit.registry import DATA_MAKERS, DATASETS
from mmeffvit.visualization.attention.images import read_image

# raised whenever the same arguments give other files
_FORMAT_VERSION = 1
#: sides of the pieces of photographs, in pixels
_PIECES = (96, 256)

#: colour photographs in scikit-image's wheel; each is in one split alone
PHOTOGRAPHS = {
    "train": (
        "astronaut.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "motorcycle_left.png",
        "retina.jpg",
        "rocket.jpg",
    ),
    "val": ("chelsea.png", "coffee.png"),
}


def photographs(split: str) -> list[np.ndarray]:
    """Photographs of a split, (H, W, 3), uint8, BGR.

    Raises:
        ValueError: scikit-image is not installed, or comes without them.
    """
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ValueError("scikit-image has the photographs; pip install scikit-image")
    folder = Path(spec.origin).parent / "data"
    return [read_image(folder / name)[..., ::-1] for name in PHOTOGRAPHS[split]]


def piece(
    rng: np.random.Generator, images: Sequence[np.ndarray], height: int, width: int
) -> np.ndarray:
    """A square piece of a photograph, as a ground for bright digits: (H, W, 3), float32, BGR."""
    image = images[rng.integers(len(images))]
    side = int(rng.integers(_PIECES[0], _PIECES[1] + 1))
    top, left = (int(rng.integers(length - side + 1)) for length in image.shape[:2])
    cut = image[top : top + side, left : left + side]
    cut = cv2.resize(np.ascontiguousarray(cut), (width, height), interpolation=cv2.INTER_AREA)
    return scenes.darken(cut.astype(np.float32) + 1)


def by_poor_camera(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3), uint8, with a tint, another gamma, blur and noise."""
    tint, gamma = rng.uniform(0.6, 1.2, 3), rng.uniform(0.7, 1.5)
    taken = (image / 255.0) ** gamma * tint * 255
    taken = cv2.GaussianBlur(taken, (0, 0), rng.uniform(0.5, 1.1))
    taken += rng.standard_normal(taken.shape) * rng.uniform(4, 16)
    return taken.round().clip(0, 255).astype(np.uint8)


def fewer(scans: Scans, digits: Sequence[int], rare: Sequence[int], share: int) -> Scans:
    """The scans of some digits, and of those that are rare every `share`-th alone."""
    labels = scans[1]
    kept = np.zeros(len(labels), bool)
    for digit in digits:
        kept[np.flatnonzero(labels == digit)[:: share if digit in rare else 1]] = True
    return tuple(part[kept] for part in scans)


def _write(folder: Path, config: dict, run: Callable[..., list]) -> None:
    """ADE20K's layout, as mmeffvit's digits have it."""
    for split, name in (("train", "training"), ("val", "validation")):
        folders = [folder / kind / name for kind in ("images", "annotations")]
        for made in folders:
            made.mkdir(parents=True)
        images = photographs(split) if config["photographed"] else None
        draw_split(split, config, partial(_draw, config, split, images, folders), run)


def _draw(
    config: dict,
    split: str,
    images: Sequence[np.ndarray] | None,
    folders: Sequence[Path],
    scans: Scans,
    index: int,
) -> None:
    # all classes are equally often in what is measured on
    rare = config["rare"] if split == "train" else ()
    scans = fewer(scans, config["digits"], rare, config["rare_share"])
    rng = np.random.default_rng([config["seed"], split == "train", index])
    height, width = config["image_size"]
    image, instances = scenes.draw_scene(
        rng,
        *scans,
        height,
        width,
        config["max_digits"],
        with_crowd=False,
        digit_sizes=config["digit_sizes"],
        plain=config["half_plain"] and split == "train" and index % 2 == 1,
        ground=None if images is None else piece(rng, images, height, width),
    )
    if images is not None:
        image = by_poor_camera(rng, image)
    stem = f"ADE_{split}_{index + 1:08d}"
    write_image(folders[0] / f"{stem}.jpg", image)
    write_image(folders[1] / f"{stem}.png", label_map(instances, *image.shape[:2]))


@DATA_MAKERS.register_module(name="digits_of_domains")
def ensure_domain(
    root: str | os.PathLike,
    photographed: bool,
    num_train: int = 4000,
    num_val: int = 400,
    image_size: int = 64,
    max_digits: int = 2,
    digit_sizes: tuple[float, float] = (0.5, 0.7),
    digits: Sequence[int] = tuple(range(10)),
    rare: Sequence[int] = (),
    rare_share: int = 8,
    half_plain: bool = True,
    seed: int = 0,
    workers: int | None = None,
    log: Callable[[str], None] = lambda message: None,
) -> bool:
    """Make sure that `root` holds exactly these scenes of one domain, in ADE20K's layout.

    Args:
        root: Folder of the data set.
        photographed: Digits on photographs, through a poor camera; or in drawn scenes.
        num_train: Images for training.
        num_val: Images for validation, with scans and photographs that training never sees.
        image_size: Side in pixels.
        max_digits: Most digits in one image.
        digit_sizes: Smallest and largest, as fractions of the image's side.
        digits: Which there are.
        rare: Digits that are rare in training.
        rare_share: How many times rarer than others.
        half_plain: Leave texture and clutter out of every second drawn image for training.
        seed: With the other arguments, decides every byte.
        workers: Threads that draw.
        log: Called with messages about the progress.

    Returns:
        Whether the data had to be written.
    """
    config = {
        "photographed": photographed,
        "num_train": num_train,
        "num_val": num_val,
        "image_size": [image_size] * 2,
        "max_digits": max_digits,
        "digit_sizes": list(digit_sizes),
        "digits": list(digits),
        "rare": list(rare),
        "rare_share": rare_share,
        "half_plain": half_plain and not photographed,
        "seed": seed,
    }
    least = {"num_train": 1, "num_val": 1, "image_size": 64, "max_digits": 1, "seed": 0}
    name = "digits of two domains"
    return ensure_data(root, name, _FORMAT_VERSION, config, least, _write, workers, log)


@DATASETS.register_module()
class DomainDigitsDataset(DigitsSegDataset):
    """Digits of one domain, pixel by pixel; written under `data_root` when first used.

    Args:
        *args: As in `DigitsSegDataset`.
        make: Arguments of `ensure_domain`, of which ``photographed`` must be given.
        **kwargs: As in `DigitsSegDataset`.
    """

    maker: ClassVar = {"type": "digits_of_domains"}
