"""Handwritten digits in cluttered scenes: a small instance segmentation data set, made on the spot.

The digits are real: the 1797 scans of 8x8 pixels that scikit-learn ships (E. Alpaydin and
C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998). The scenes around them
are drawn. Scans come in the order of their writers; the last fifth is kept for validation, so that
neither a scan nor, almost always, its writer's hand is seen in training.

`scenes` paints one image, `images` says which image of a split holds what, `layouts` writes them as
COCO, ADE20K and ImageNet-1K are, `panoptic_layout` as COCO panoptic, and `detection`,
`segmentation`, `panoptic` and `classification` have the data sets for mmdet, mmseg and mmpretrain.
"""

import os
from collections.abc import Callable
from pathlib import Path

from mmeffvit.demo_data.digits.images import DIGITS_METAINFO
from mmeffvit.demo_data.digits.layouts import FORMAT_VERSION, WRITERS
from mmeffvit.demo_data.folders import ensure_data
from mmeffvit.registry import DATA_MAKERS

__all__ = ["DIGITS_METAINFO", "ensure_digits", "write_digits"]


@DATA_MAKERS.register_module(name="digits")
def ensure_digits(
    root: str | os.PathLike,
    num_train: int = 800,
    num_val: int = 100,
    image_size: int | tuple[int, int] = 160,
    max_digits: int = 5,
    seed: int = 0,
    layout: str = "digits",
    digit_sizes: tuple[float, float] | None = None,
    half_plain: bool = False,
    workers: int | None = None,
    log: Callable[[str], None] = lambda message: None,
) -> bool:
    """Make sure that `root` holds the digits data of exactly these arguments.

    Any number of processes may call this at the same time: one writes, the others wait. `root`
    appears when all of it is written. Data of other arguments, or with files missing, is replaced.

    Args:
        root: Folder of the data set.
        num_train: Images for training.
        num_val: Images for validation.
        image_size: Side in pixels, or ``(height, width)``; a quarter of images that are not square
            stand the other way up.
        max_digits: Most digits in one image, crowds apart.
        seed: With the other arguments, decides every byte.
        layout: ``'digits'`` (ten categories, ``train/``, ``val/``, ``annotations/train.json`` ...),
            ``'coco'`` (names, folders and all 80 categories of COCO 2017; digit d is the category
            of id d + 1), ``'ade20k'`` (``images/training/``, ``annotations/training/`` ...; digit
            d has the label d + 1, what is no digit 11, and crowds 0, which is not labelled),
            ``'panoptic'`` (COCO's panoptic layout: on grounds of four kinds, which are stuff) or
            ``'imagenet'`` (``train/n01440764/`` ..., ``meta/val.txt`` ...; one larger digit in each
            image, digit d in the folder of ImageNet-1K's class d).
        digit_sizes: Sides of the smallest and the largest digit, as fractions of the image's
            shorter side; None is what the layout has by itself.
        half_plain: Leave texture and clutter out of every second image for training, which shows
            what a digit is: cluttered scenes alone take long to teach it. Not for ``'imagenet'``,
            which has it.
        workers: Threads that draw; has no influence on what is drawn. All processors by default.
        log: Called with messages about the progress.

    Returns:
        Whether the data had to be written.

    Raises:
        ValueError: An argument is out of its range.
        ForeignFolderError: `root` holds something that is not this data.
    """
    if layout not in WRITERS:
        raise ValueError(f"layout is {layout!r}; it must be one of {sorted(WRITERS)}")
    size = [image_size] * 2 if isinstance(image_size, int) else list(image_size)
    config = {
        "num_train": num_train,
        "num_val": num_val,
        "image_size": size,
        "max_digits": max_digits,
        "seed": seed,
        "layout": layout,
    }
    if digit_sizes is not None:
        if not 0 < digit_sizes[0] <= digit_sizes[1]:
            raise ValueError(f"digit_sizes is {digit_sizes}; it must be a smaller and a larger one")
        config["digit_sizes"] = list(digit_sizes)
    if half_plain:
        config["half_plain"] = True
    least = {"num_train": 1, "num_val": 1, "image_size": 64, "max_digits": 1, "seed": 0}
    write = WRITERS[layout]
    return ensure_data(root, "digits", FORMAT_VERSION, config, least, write, workers, log)


def write_digits(root: str | os.PathLike, **kwargs) -> Path:
    """Write the digits data, or keep it if it is there; arguments as in :func:`ensure_digits`.

    Returns:
        `root`, as a path.
    """
    ensure_digits(root, **kwargs)
    return Path(root)
