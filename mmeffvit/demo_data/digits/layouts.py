"""The digits data as files: in layouts of COCO, ADE20K and ImageNet-1K.

COCO's has what makes it awkward: masks in several parts and with holes, occlusion, crowds in RLE,
images without any object.

ADE20K's has an image and a map of labels, counted as there: 0 is what is not labelled and neither
trained nor measured on, and class c of the list is written as c + 1; every loader of ADE20K undoes
this (`reduce_zero_label`). Not labelled are crowds, whose regions cover several small digits and
the gaps between them. Everything that is no digit is a class of its own: were it 0, painting digits
over the whole image would cost nothing.

ImageNet's has a folder per class, with the WordNet identifiers of its first ten, and one digit in
each image, which takes most of it: at 64 pixels it is as large as the larger ones in scenes of 160.
Every second image for training is plain, without texture and clutter: it shows what a digit is,
which cluttered images alone take long to teach. ``meta`` holds the lists of files with labels by
which mmpretrain knows that there are a thousand classes.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmeffvit.datasets.coco_categories import COCO_CATEGORIES
from mmeffvit.demo_data.digits import scenes
from mmeffvit.demo_data.digits.images import (
    DIGITS_METAINFO,
    Scans,
    draw_image,
    draw_split,
    write_image,
)
from mmeffvit.demo_data.digits.panoptic_layout import write_panoptic
from mmeffvit.demo_data.digits.polygons import (
    mask_extent,
    mask_iou,
    mask_to_counts,
    mask_to_polygons,
    polygons_to_mask,
)

# raised whenever the same arguments give other files
FORMAT_VERSION = 1
_MIN_POLYGON_IOU = 0.9

DIGITS_SEG_METAINFO = {
    "classes": (*DIGITS_METAINFO["classes"], "background"),
    "palette": [*map(list, DIGITS_METAINFO["palette"]), [70, 74, 80]],
}
UNLABELLED = 0
BACKGROUND = DIGITS_SEG_METAINFO["classes"].index("background")

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
_ALONE_SIZES = (0.7, 0.9)
# another stream of chance than that of the scenes
_ALONE_STREAM = 1000


def _write_digits(folder: Path, config: dict, run: Callable[..., list]) -> None:
    categories = [("digit", digit + 1, name) for digit, name in enumerate("0123456789")]
    _write_coco(folder, config, run, "{split}", "{split}.json", categories, with_scans=True)


def _write_coco_2017(folder: Path, config: dict, run: Callable[..., list]) -> None:
    categories = [(group, number, name) for number, name, group in COCO_CATEGORIES]
    _write_coco(folder, config, run, "{split}2017", "instances_{split}2017.json", categories)


def _write_coco(
    folder: Path,
    config: dict,
    run: Callable[..., list],
    images_name: str,
    annotations_name: str,
    categories: list[tuple[str, int, str]],
    with_scans: bool = False,
) -> None:
    """Write ``annotations/`` and a folder of images per split."""
    (folder / "annotations").mkdir()
    first_id = 1
    for split in ("train", "val"):
        images = folder / images_name.format(split=split)
        images.mkdir()

        def draw(scans, index, split=split, images=images, first_id=first_id):
            image, instances = draw_image(config, split, scans, index)
            image_id = first_id + index
            info = {
                "license": 1,
                "file_name": f"{image_id:012d}.jpg",
                "height": image.shape[0],
                "width": image.shape[1],
                "id": image_id,
            }
            write_image(images / info["file_name"], image)
            annotations = [to_annotation(instance, info) for instance in instances]
            if with_scans:
                for annotation, instance in zip(annotations, instances):
                    annotation["scans"] = instance.scans
            return info, annotations

        infos = draw_split(split, config, draw, run)
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
            "categories": [
                {"supercategory": group, "id": number, "name": name}
                for group, number, name in categories
            ],
        }
        # unique over both splits, as in COCO
        for annotation_id, annotation in enumerate(document["annotations"], first_id * 100):
            annotation["id"] = annotation_id
        path = folder / "annotations" / annotations_name.format(split=split)
        path.write_text(json.dumps(document, separators=(",", ":")))
        first_id += len(infos)


def to_annotation(instance: scenes.Instance, info: dict) -> dict:
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
    }


def label_map(instances: list[scenes.Instance], height: int, width: int) -> np.ndarray:
    """The labels of an image as ADE20K stores them: (H, W), uint8."""
    labels = np.full((height, width), BACKGROUND + 1, np.uint8)
    for instance in instances:
        labels[instance.mask] = UNLABELLED if instance.is_crowd else instance.digit + 1
    return labels


def _write_ade20k(folder: Path, config: dict, run: Callable[..., list]) -> None:
    """Write ``images/`` and ``annotations/``, each with ``training/`` and ``validation/``."""
    for split, name in (("train", "training"), ("val", "validation")):
        images, annotations = folder / "images" / name, folder / "annotations" / name
        images.mkdir(parents=True)
        annotations.mkdir(parents=True)

        def draw(scans, index, split=split, images=images, annotations=annotations):
            image, instances = draw_image(config, split, scans, index)
            stem = f"ADE_{split}_{index + 1:08d}"
            write_image(images / f"{stem}.jpg", image)
            write_image(annotations / f"{stem}.png", label_map(instances, *image.shape[:2]))

        draw_split(split, config, draw, run)


def draw_digit(config: dict, split: str, scans: Scans, index: int) -> tuple[np.ndarray, int]:
    """Draw one image of ImageNet's layout; it depends on nothing but the arguments.

    Args:
        config: With ``seed`` and ``image_size``.
        split: ``'train'`` or ``'val'``.
        scans: Of :func:`mmeffvit.demo_data.digits.images.load_scans`.
        index: Number of the image in its split.

    Returns:
        The image (H, W, 3), uint8, in BGR order, and the digit in it.
    """
    stream = _ALONE_STREAM + ("train", "val").index(split)
    rng = np.random.default_rng([config["seed"], stream, index])
    draw = functools.partial(
        scenes.draw_scene,
        rng,
        *scans,
        *config["image_size"],
        max_digits=1,
        with_crowd=False,
        digit_sizes=_ALONE_SIZES,
        plain=split == "train" and index % 2 == 0,
    )
    image, instances = draw()
    while not instances:  # no place was found
        image, instances = draw()
    return image, instances[0].digit


def _write_imagenet(folder: Path, config: dict, run: Callable[..., list]) -> None:
    """Write ``train/``, ``val/`` and ``meta/``."""
    (folder / "meta").mkdir()
    for split in ("train", "val"):
        images = folder / split
        for wnid in WNIDS:
            (images / wnid).mkdir(parents=True)

        def draw(scans, index, split=split, images=images) -> str:
            image, digit = draw_digit(config, split, scans, index)
            wnid = WNIDS[digit]
            stem = f"{wnid}_{index + 1}" if split == "train" else f"ILSVRC2012_val_{index + 1:08d}"
            write_image(images / wnid / f"{stem}.JPEG", image)
            return f"{wnid}/{stem}.JPEG {digit}\n"

        lines = draw_split(split, config, draw, run)
        (folder / "meta" / f"{split}.txt").write_text("".join(lines))


#: layout -> ``write(folder, config, run)``
WRITERS = {
    "digits": _write_digits,
    "coco": _write_coco_2017,
    "ade20k": _write_ade20k,
    "imagenet": _write_imagenet,
    "panoptic": write_panoptic,
}
