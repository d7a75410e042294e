"""The digits data in COCO's panoptic layout: digits are things, the grounds under them are stuff.

``annotations/panoptic_train.json`` lists the segments of each image, and
``annotations/panoptic_train/`` has a picture for each, whose colours are their numbers: red + 256
green + 65536 blue. Crowds of digits are segments with ``iscrowd``, which nobody trains or is
measured on.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmeffvit.demo_data.digits.grounds import STUFF, draw_ground
from mmeffvit.demo_data.digits.images import (
    DIGITS_METAINFO,
    Scans,
    draw_image,
    draw_split,
    write_image,
)
from mmeffvit.demo_data.digits.polygons import mask_extent
from mmeffvit.demo_data.digits.scenes import Instance

_DIGITS = DIGITS_METAINFO["classes"]
DIGITS_PANOPTIC_METAINFO = {
    "classes": (*_DIGITS, *STUFF),
    "thing_classes": _DIGITS,
    "stuff_classes": STUFF,
    "palette": [
        *DIGITS_METAINFO["palette"],
        (70, 74, 80),
        (150, 156, 164),
        (44, 82, 112),
        (112, 82, 56),
    ],
}
# another stream of chance than that of the scenes
_GROUND_STREAM = 2000


def draw_panoptic(
    config: dict, split: str, scans: Scans, index: int
) -> tuple[np.ndarray, list[Instance], np.ndarray]:
    """Draw one image; it depends on nothing but the arguments.

    Args:
        config: Of :func:`mmeffvit.demo_data.digits.images.draw_image`.
        split: ``'train'`` or ``'val'``.
        scans: Of :func:`mmeffvit.demo_data.digits.images.load_scans`.
        index: Number of the image in its split.

    Returns:
        The image (H, W, 3), uint8, in BGR order, the digits in it, and which of `STUFF` lies under
        each pixel (H, W).
    """
    stream = _GROUND_STREAM + ("train", "val").index(split)
    rng = np.random.default_rng([config["seed"], stream, index])
    stuff = []

    def ground(height: int, width: int) -> np.ndarray:
        image, labels = draw_ground(rng, height, width)
        stuff.append(labels)
        return image

    image, instances = draw_image(config, split, scans, index, ground)
    return image, instances, stuff[0]


def segment_map(instances: list[Instance], stuff: np.ndarray) -> tuple[np.ndarray, list[dict]]:
    """The segments of an image.

    Returns:
        Their numbers (H, W), and COCO's ``segments_info``.
    """
    ids, segments = np.zeros(stuff.shape, np.int64), []
    regions = [(len(_DIGITS) + int(kind), stuff == kind, False) for kind in np.unique(stuff)]
    regions += [(instance.digit, instance.mask, instance.is_crowd) for instance in instances]
    # one number per segment, in more than one channel of colour
    numbers = [1000 * (label + 1) + place for place, (label, _, _) in enumerate(regions, 1)]
    for number, (_, mask, _) in zip(numbers, regions):
        ids[mask] = number
    for number, (label, _, is_crowd) in zip(numbers, regions):
        mask = ids == number
        if not mask.any():  # stuff that digits cover
            continue
        y0, x0, y1, x1 = mask_extent(mask)
        segments.append(
            {
                "id": number,
                "category_id": label + 1,
                "area": int(np.count_nonzero(mask)),
                "bbox": [int(v) for v in (x0, y0, x1 - x0, y1 - y0)],
                "iscrowd": int(is_crowd),
            }
        )
    return ids, segments


def write_panoptic(folder: Path, config: dict, run: Callable[..., list]) -> None:
    """Write ``train/``, ``val/`` and ``annotations/``."""
    categories = [
        {"id": label + 1, "name": name, "supercategory": group, "isthing": int(group == "digit")}
        for label, (name, group) in enumerate(
            [*((name, "digit") for name in _DIGITS), *((name, "ground") for name in STUFF)]
        )
    ]
    first_id = 1
    for split in ("train", "val"):
        images, maps = folder / split, folder / "annotations" / f"panoptic_{split}"
        images.mkdir()
        maps.mkdir(parents=True)

        def draw(scans, index, split=split, images=images, maps=maps, first_id=first_id):
            image, instances, stuff = draw_panoptic(config, split, scans, index)
            ids, segments = segment_map(instances, stuff)
            stem = f"{first_id + index:012d}"
            write_image(images / f"{stem}.jpg", image)
            channels = np.stack([ids >> 16, ids >> 8, ids], -1) & 255  # blue, green, red
            write_image(maps / f"{stem}.png", channels.astype(np.uint8))
            info = {"id": first_id + index, "file_name": f"{stem}.jpg"}
            info["height"], info["width"] = image.shape[:2]
            of_image = {"image_id": info["id"], "file_name": f"{stem}.png"}
            return info, {**of_image, "segments_info": segments}

        drawn = draw_split(split, config, draw, run)
        document = {
            "info": {"description": "Handwritten digits on grounds of four kinds"},
            "images": [info for info, _ in drawn],
            "annotations": [annotation for _, annotation in drawn],
            "categories": categories,
        }
        path = folder / "annotations" / f"panoptic_{split}.json"
        path.write_text(json.dumps(document, separators=(",", ":")))
        first_id += len(drawn)
