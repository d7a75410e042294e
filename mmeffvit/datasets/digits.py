"""Handwritten digits in cluttered scenes: a small instance segmentation data set, made on the spot.

The digits are real: the 1797 scans of 8x8 pixels that scikit-learn ships (E. Alpaydin and
C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998). The scenes around them
are drawn. Scans come in the order of their writers; the last fifth is kept for validation, so that
neither a scan nor, almost always, its writer's hand is seen in training.

The layout is COCO's, with what makes COCO awkward: masks in several parts and with holes,
occlusion, crowds in RLE, images without any object.
"""

import functools
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from mmeffvit.datasets import digits_scene
from mmeffvit.datasets.folders import ensure_folder
from mmeffvit.datasets.polygons import (
    mask_extent,
    mask_iou,
    mask_to_counts,
    mask_to_polygons,
    polygons_to_mask,
)

DIGITS_METAINFO = {
    "classes": tuple("0123456789"),
    "palette": [
        (230, 57, 70),
        (29, 155, 240),
        (46, 184, 92),
        (255, 176, 0),
        (155, 93, 229),
        (0, 194, 184),
        (241, 91, 181),
        (255, 120, 40),
        (120, 144, 40),
        (98, 114, 255),
    ],
}

# raised whenever the same arguments give other files
FORMAT_VERSION = 1
NUM_TRAIN_SCANS = 1438
_EMPTY_EVERY, _CROWD_EVERY = 25, 12
_MIN_POLYGON_IOU = 0.9
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95)


def ensure_digits(
    root: str | os.PathLike,
    num_train: int = 800,
    num_val: int = 100,
    image_size: int | tuple[int, int] = 160,
    max_digits: int = 5,
    seed: int = 0,
    layout: str = "digits",
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
        layout: ``'digits'`` (ten categories, ``train/``, ``val/``, ``annotations/train.json`` ...)
            or ``'coco'`` (names, folders and all 80 categories of COCO 2017; digit d is the
            category of id d + 1).
        workers: Threads that draw; has no influence on what is drawn. All processors by default.
        log: Called with messages about the progress.

    Returns:
        Whether the data had to be written.

    Raises:
        ValueError: An argument is out of its range.
        ForeignFolderError: `root` holds something that is not this data.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    for name, value, least in (
        ("num_train", num_train, 1),
        ("num_val", num_val, 1),
        ("image_size", min(height, width), 64),
        ("max_digits", max_digits, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    if layout not in _LAYOUTS:
        raise ValueError(f"layout is {layout!r}; it must be one of {sorted(_LAYOUTS)}")
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
    return ensure_folder(root, config, functools.partial(_write, config, workers, log), log)


def write_digits(root: str | os.PathLike, **kwargs) -> Path:
    """Write the digits data, or keep it if it is there; arguments as in :func:`ensure_digits`.

    Returns:
        `root`, as a path.
    """
    ensure_digits(root, **kwargs)
    return Path(root)


def load_scans(split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The scans of a split, ``'train'`` or ``'val'``.

    Returns:
        Ink (N, 8, 8) from 0 to 1, the digit of each (N,), and its index in scikit-learn's set (N,).
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits data is made from scikit-learn's scans; run: pip install scikit-learn"
        ) from error
    data = load_digits()
    ids = np.arange(len(data.images))
    ids = ids[:NUM_TRAIN_SCANS] if split == "train" else ids[NUM_TRAIN_SCANS:]
    return (data.images[ids] / 16).astype(np.float32), data.target[ids], ids


def _write(config: dict, workers: int | None, log: Callable[[str], None], folder: Path) -> None:
    layout = _LAYOUTS[config["layout"]]
    (folder / "annotations").mkdir()
    first_id = 1
    for split, number in (("train", config["num_train"]), ("val", config["num_val"])):
        images = folder / layout["images"].format(split=split)
        images.mkdir()
        infos = _write_split(images, split, first_id, number, config, workers, log)
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


def _write_split(
    images: Path,
    split: str,
    first_id: int,
    number: int,
    config: dict,
    workers: int | None,
    log: Callable[[str], None],
) -> list[tuple[dict, list[dict]]]:
    scans = load_scans(split)
    # an image depends on its own number alone, hence not on who draws it or when
    draw = functools.partial(_write_image, images, split, first_id, config, scans)
    infos = []
    step = max(1, number // 5)
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for info in pool.map(draw, range(number)):
            infos.append(info)
            if len(infos) % step == 0 or len(infos) == number:
                log(f"digits data: {split} {len(infos)}/{number} images")
    return infos


def _write_image(
    images: Path,
    split: str,
    first_id: int,
    config: dict,
    scans: tuple[np.ndarray, np.ndarray, np.ndarray],
    index: int,
) -> tuple[dict, list[dict]]:
    rng = np.random.default_rng([config["seed"], ("train", "val").index(split), index])
    height, width = config["image_size"]
    if height != width and rng.random() < 0.25:
        height, width = width, height
    is_empty = index % _EMPTY_EVERY == _EMPTY_EVERY // 4
    has_crowd = index % _CROWD_EVERY == _CROWD_EVERY // 4 and not is_empty
    max_digits = 0 if is_empty else config["max_digits"]
    image, instances = digits_scene.draw_scene(
        rng, *scans, height, width, max_digits, with_crowd=has_crowd
    )
    image_id = first_id + index
    info = {
        "license": 1,
        "file_name": f"{image_id:012d}.jpg",
        "height": height,
        "width": width,
        "id": image_id,
    }
    ok, encoded = cv2.imencode(".jpg", image, _JPEG)
    if not ok:
        raise RuntimeError("OpenCV cannot encode JPEG here; install opencv-python-headless")
    (images / info["file_name"]).write_bytes(encoded.tobytes())
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


_LAYOUTS = {
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
