"""Handwritten digits in cluttered scenes: a small instance segmentation data set, made on the spot.

The digits are real: the 1797 scans of 8x8 pixels that scikit-learn ships (E. Alpaydin and
C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998). The scenes around them
are drawn. Scans come in the order of their writers; the last fifth is kept for validation, so that
neither a scan nor, almost always, its writer's hand is seen in training.

The layout is COCO's, with what makes COCO awkward: masks in several parts and with holes,
occlusion, crowds in RLE, images without any object. Layouts for other tasks have modules of their
own beside this one.
"""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmeffvit.datasets import digits_ade, digits_imagenet, digits_images, digits_scene
from mmeffvit.datasets.digits_images import DIGITS_METAINFO
from mmeffvit.datasets.folders import check_least, ensure_folder
from mmeffvit.datasets.polygons import (
    mask_extent,
    mask_iou,
    mask_to_counts,
    mask_to_polygons,
    polygons_to_mask,
)

# raised whenever the same arguments give other files
FORMAT_VERSION = 1
_MIN_POLYGON_IOU = 0.9


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
            d has the label d + 1, what is no digit 11, and crowds 0, which is not labelled) or
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
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    check_least(
        num_train=(num_train, 1),
        num_val=(num_val, 1),
        image_size=(min(height, width), 64),
        max_digits=(max_digits, 1),
        seed=(seed, 0),
    )
    if layout not in _WRITERS:
        raise ValueError(f"layout is {layout!r}; it must be one of {sorted(_WRITERS)}")
    config = {
        "data": "mmeffvit digits",
        "format_version": FORMAT_VERSION,
        "num_train": num_train,
        "num_val": num_val,
        "image_size": [height, width],
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
    return ensure_folder(
        root, config, functools.partial(_WRITERS[layout], config, workers, log), log
    )


def write_digits(root: str | os.PathLike, **kwargs) -> Path:
    """Write the digits data, or keep it if it is there; arguments as in :func:`ensure_digits`.

    Returns:
        `root`, as a path.
    """
    ensure_digits(root, **kwargs)
    return Path(root)


def _write_coco(
    config: dict, workers: int | None, log: Callable[[str], None], folder: Path
) -> None:
    layout = _COCO_LAYOUTS[config["layout"]]
    (folder / "annotations").mkdir()
    first_id = 1
    for split in ("train", "val"):
        images = folder / layout["images"].format(split=split)
        images.mkdir()
        draw = functools.partial(_write_image, images, split, first_id, config)
        number = config[f"num_{split}"]
        infos = digits_images.draw_split(split, number, draw, workers, log)
        document = {
            "info": {
                "description": "Handwritten digits in cluttered scenes",
                "version": str(FORMAT_VERSION),
                "contributor": "mmeffvit; scans: UCI Optical Recognition of Handwritten Digits",
            },
            "licenses": [
                {
                    "id": 1,
                    "name": "CC BY 4.0",
                    "url": "https://creativecommons.org/licenses/by/4.0/",
                }
            ],
            "images": [info for info, _ in infos],
            "annotations": [a for _, annotations in infos for a in annotations],
            "categories": layout["categories"](),
        }
        # unique over both splits, as in COCO
        for annotation_id, annotation in enumerate(document["annotations"], first_id * 100):
            annotation["id"] = annotation_id
        path = folder / "annotations" / layout["annotations"].format(split=split)
        path.write_text(json.dumps(document, separators=(",", ":")))
        first_id += number


def _write_image(
    images: Path,
    split: str,
    first_id: int,
    config: dict,
    scans: tuple[np.ndarray, np.ndarray, np.ndarray],
    index: int,
) -> tuple[dict, list[dict]]:
    image, instances = digits_images.draw_image(config, split, scans, index)
    image_id = first_id + index
    info = {
        "license": 1,
        "file_name": f"{image_id:012d}.jpg",
        "height": image.shape[0],
        "width": image.shape[1],
        "id": image_id,
    }
    digits_images.write_image(images / info["file_name"], image)
    annotations = [_annotation(instance, info) for instance in instances]
    if config["layout"] == "coco":
        for annotation in annotations:
            del annotation["scans"]
    return info, annotations


def _annotation(instance: digits_scene.Instance, info: dict) -> dict:
    """COCO's record of an instance; area and box are those of the mask as it is stored."""
    mask = instance.mask
    if instance.is_crowd:
        segmentation = mask_to_counts(mask)
    else:
        segmentation = mask_to_polygons(mask)
        filled = polygons_to_mask(segmentation, info["height"], info["width"])
        if mask_iou(filled, mask) >= _MIN_POLYGON_IOU:
            mask = filled
        else:  # a sliver, which lines through its pixels would lose
            segmentation = mask_to_counts(mask)
    y0, x0, y1, x1 = mask_extent(mask)
    return {
        "segmentation": segmentation,
        "area": float(np.count_nonzero(mask)),
        "iscrowd": int(instance.is_crowd),
        "image_id": info["id"],
        "bbox": [float(v) for v in (x0, y0, x1 - x0, y1 - y0)],
        "category_id": instance.digit + 1,
        "id": 0,
        "scans": instance.scans,
    }


def _digit_categories() -> list[dict]:
    names = DIGITS_METAINFO["classes"]
    return [{"supercategory": "digit", "id": d + 1, "name": name} for d, name in enumerate(names)]


def _coco_categories() -> list[dict]:
    from mmeffvit.datasets.coco_categories import COCO_CATEGORIES

    return [
        {"supercategory": group, "id": number, "name": name}
        for number, name, group in COCO_CATEGORIES
    ]


_COCO_LAYOUTS = {
    "digits": {
        "images": "{split}",
        "annotations": "{split}.json",
        "categories": _digit_categories,
    },
    "coco": {
        "images": "{split}2017",
        "annotations": "instances_{split}2017.json",
        "categories": _coco_categories,
    },
}

_WRITERS = {
    **dict.fromkeys(_COCO_LAYOUTS, _write_coco),
    "ade20k": digits_ade.write,
    "imagenet": digits_imagenet.write,
}
