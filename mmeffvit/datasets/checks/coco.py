"""Checks of annotation files in COCO's JSON, and of their images.

What is an error and what a warning follows from what mmdet's `CocoDataset` and pycocotools do with
it. One pass over the file; of the images all names are looked for, and some are opened.
"""

from __future__ import annotations

import gc
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mmeffvit.datasets.checks.findings import (
    Finding,
    error,
    plural,
    shorten,
    spread,
    warning,
)
from mmeffvit.datasets.checks.images import (
    BrokenImageError,
    Folders,
    check_depth,
    image_size,
)
from mmeffvit.datasets.checks.names import check_classes, check_names

#: keys that readers ask for without a default
_NEEDED = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area"),
    "categories": ("id", "name"),
}
#: what their values must be
_KINDS = {
    "id": ((int, str), "number or text"),
    "image_id": ((int, str), "number or text"),
    "category_id": ((int, str), "number or text"),
    "file_name": ((str,), "text"),
    "name": ((str,), "text"),
    "height": ((int,), "whole number"),
    "width": ((int,), "whole number"),
    "bbox": ((list,), "list"),
}
#: pixels by which a box may reach beyond the image: annotators round
_SLACK = 2


def check_coco(
    path: str | os.PathLike,
    classes: Sequence[str] | None = None,
    images: str | os.PathLike | None = None,
    with_masks: bool = False,
    measured: bool = False,
    training: bool = True,
    sample: int = 24,
    eight_bits: bool = False,
) -> list[Finding]:
    """Check an annotation file.

    Args:
        path: The JSON file.
        classes: Names of the classes in the config, in their order; None if they are not known.
        images: The folder that ``file_name`` is relative to; None for no look at the images.
        with_masks: Whether the model needs a mask of every object.
        measured: Whether an evaluator reads the file.
        training: Whether a model is trained on its objects: there must be some.
        sample: How many images are opened.
        eight_bits: Whether the pipeline reads 8 bits of every image.
    """
    path = str(path)
    with _without_collection():
        try:
            raw = Path(path).read_bytes()
            content = json.loads(raw)
        except (OSError, ValueError) as problem:
            todo = "Restore or write it again"
            return [error(path, f"cannot be read as JSON: {problem}", todo=todo)]
        if not training and isinstance(content, dict):
            content.setdefault("annotations", [])  # files of images to be tested have none
        findings = _check_encoding(raw, path) or check_form(content, path)
        if findings:
            return findings
        findings += _check_categories(content, classes, path)
        findings += _check_ids(content, path)
        findings += _check_objects(content, classes, path, with_masks, measured, training)
        if images is not None:
            findings += check_images(content["images"], str(images), path, sample, eight_bits)
        return findings


def _check_encoding(raw: bytes, path: str) -> list[Finding]:
    """Python's own reader of bytes is more patient than those of mmdet and pycocotools."""
    codec = json.detect_encoding(raw)
    if codec == "utf-8":
        return []
    what = "begins with a byte order mark" if codec == "utf-8-sig" else f"is in {codec.upper()}"
    todo = "Save it in UTF-8 without a byte order mark"
    return [error(path, f"{what}, which mmdet and COCO's evaluation cannot read", todo=todo)]


@contextmanager
def _without_collection() -> Iterator[None]:
    """Without looking for garbage, which millions of new lists that are none would make slow."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _check_categories(content: Mapping, classes: Sequence[str] | None, path: str) -> list[Finding]:
    if classes is None:
        return []
    names = [category["name"] for category in content["categories"]]
    used = {annotation["category_id"] for annotation in content["annotations"]}
    # such as the group of classes that Roboflow writes
    empty = [category["name"] for category in content["categories"] if category["id"] not in used]
    return check_classes(classes, path) or check_names(
        classes, names, path, in_order=True, empty=empty if used else ()
    )


def check_form(
    content: Any, path: str, needed: Mapping[str, Sequence[str]] = _NEEDED
) -> list[Finding]:
    """Whether there are lists of dicts with the keys that readers ask for.

    Args:
        content: Of the file.
        path: Its name.
        needed: The lists, and the keys of their entries.
    """
    if not isinstance(content, Mapping):
        return [error(path, f"is a {type(content).__name__} and not a dict in COCO's form")]
    findings = []
    for part, keys in needed.items():
        entries = content.get(part)
        if not isinstance(entries, list):
            there = f"it has {shorten(content)}" if content else "it is empty"
            findings.append(
                error(path, f"has no list {part!r}; {there}", todo="Export it in COCO's form")
            )
            continue
        strange = [index for index, entry in enumerate(entries) if type(entry) is not dict]
        if strange:
            findings.append(error(path, f"has {part} that are no dicts", strange))
            continue
        for key in keys:
            findings += _check_key(part, key, entries, path)
    return findings


def _check_key(part: str, key: str, entries: Sequence[Mapping], path: str) -> list[Finding]:
    """Whether all entries of a list have a key, and values of the kind that it must have."""
    values = [entry.get(key) for entry in entries]
    kinds, words = _KINDS.get(key, (None, ""))
    # two passes in C; what is wrong is looked for only if something is
    if None in values:
        what, wrong = f"have no {key!r}", [value is None for value in values]
    elif kinds is not None and not set(map(type, values)) <= set(kinds):
        what = f"have a {key!r} that is no {words}"
        wrong = [type(value) not in kinds for value in values]
    else:
        return []
    rows = [row for row, bad in enumerate(wrong) if bad]
    ids = [entries[row].get("id", f"no. {row}") for row in rows]
    return [error(path, f"{part} {what}", ids, _FILL.get(key, ""))]


#: what to do where a key is missing
_FILL = {
    "area": "Add the area in pixels: of the mask, or width times height of the box",
}


def _check_ids(content: Mapping, path: str) -> list[Finding]:
    findings = []
    for part in _NEEDED:
        twice = _twice(entry["id"] for entry in content[part])
        if twice:
            findings.append(error(path, f"ids of {part} are not unique", twice, "Number them anew"))
    names = _twice(category["name"] for category in content["categories"])
    if names:
        todo = "Merge these categories, or give them names of their own"
        findings.append(error(path, "categories share a name", names, todo))
    files = _twice(image["file_name"] for image in content["images"])
    if files:
        findings.append(warning(path, "images share a file", files))
    if any(annotation["id"] == 0 for annotation in content["annotations"]):
        findings.append(
            warning(
                path,
                "an annotation has the id 0, which pycocotools takes for 'not found'",
                todo="Number annotations from 1",
            )
        )
    known = {image["id"] for image in content["images"]}
    strange = [a["id"] for a in content["annotations"] if a["image_id"] not in known]
    if strange:
        kinds = {type(image["id"]).__name__ for image in content["images"]}
        kinds |= {type(a["image_id"]).__name__ for a in content["annotations"]}
        text = " (ids are text in one place and numbers in the other)" if len(kinds) > 1 else ""
        lost = len(strange) == len(content["annotations"])
        make = error if lost or text else warning
        findings.append(
            make(path, f"annotations belong to images that are not in it{text}", strange)
        )
    categories = {category["id"] for category in content["categories"]}
    strange = [a["id"] for a in content["annotations"] if a["category_id"] not in categories]
    if strange:
        used = {repr(a["category_id"]) for a in content["annotations"]}
        unknown = sorted(used - set(map(repr, categories)))
        findings.append(
            error(
                path,
                f"annotations have categories that it does not list: {shorten(unknown)}; it lists "
                f"{shorten(map(repr, categories))}",
                strange,
                "List them in 'categories', or they would be left out without a word",
            )
        )
    return findings


def _twice(ids: Iterable) -> list:
    return [entry for entry, count in Counter(ids).items() if count > 1]


def _check_objects(
    content: Mapping,
    classes: Sequence[str] | None,
    path: str,
    with_masks: bool,
    measured: bool,
    training: bool,
) -> list[Finding]:
    """What is wrong with the objects of the classes."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    used = {
        category["id"]
        for category in content["categories"]
        if classes is None or category["name"] in set(classes)
    }
    objects = [
        annotation
        for annotation in content["annotations"]
        if annotation["category_id"] in used and annotation["image_id"] in sizes
    ]
    if not content["images"]:
        return [error(path, "has no images")]
    if not objects:
        # without a category in common that has been said
        make = error if training else warning
        return [make(path, "has no object of the classes of the config")] if used else []
    image_sizes = np.array([sizes[each["image_id"]] for each in objects], float)
    findings = _check_boxes(objects, image_sizes, path, training)
    if measured:
        lacking = [each["id"] for each in objects if each.get("iscrowd") is None]
        what = "without 'iscrowd', which is needed to measure"
        todo = "Add iscrowd=0, or 1 for groups of objects"
        findings += _some(error, path, what, lacking, todo)
    if with_masks:
        findings += _check_masks(objects, image_sizes, path, measured)
    return findings


def _some(make: Callable, path: str, what: str, ids: Sequence, todo: str = "") -> list[Finding]:
    """A finding about some objects, if there are any."""
    return [make(path, f"{plural(len(ids), 'object')} {what}", ids, todo)] if len(ids) else []


def _check_boxes(
    objects: Sequence[Mapping], sizes: np.ndarray, path: str, training: bool
) -> list[Finding]:
    boxes = _numbers([each["bbox"] for each in objects], 4)
    areas = _numbers([[each["area"]] for each in objects], 1)[:, 0]
    known = np.isfinite(boxes).all(1) & np.isfinite(areas)
    starts, sides = boxes[:, :2], boxes[:, 2:]
    ends = starts + sides
    with np.errstate(invalid="ignore"):
        no_area = known & ((sides < 1).any(1) | (areas <= 0))
        left = known & ~no_area
        outside = left & ((starts >= sizes) | (ends <= 0)).any(1)
        beyond = left & ((starts < -_SLACK) | (ends > sizes + _SLACK)).any(1)
        corners = ((starts < sides) & (sides <= sizes + _SLACK)).all(1)

    def ids(rows: np.ndarray) -> list:
        return [objects[row]["id"] for row in np.flatnonzero(rows)]

    findings = _some(error, path, "without a box of four finite numbers", ids(~known))
    if beyond.sum() > len(objects) / 2 and corners[known].all():
        what = f"{beyond.sum()} of {len(objects)} boxes reach beyond their images, but would fit as"
        todo = "Write COCO's boxes as (x, y, width, height)"
        findings.append(error(path, f"{what} (x0, y0, x1, y1)", todo=todo))
    todo = "Such objects are left out of training; mend them or take them out"
    # with all of them a model would learn that there is nothing
    make = error if training and (no_area | outside).all() else warning
    what = "with a box or an area of less than a pixel"
    findings += _some(make, path, what, ids(no_area), todo)
    findings += _some(make, path, "outside of the image", ids(outside), todo)
    what = "reaching beyond the edge of the image"
    return findings + _some(warning, path, what, ids(beyond & ~outside))


def _numbers(rows: Sequence, columns: int) -> np.ndarray:
    """(n, columns) float64; rows of anything but so many numbers are NaN."""
    try:
        array = np.array(rows)
        if array.dtype.kind in "fiu" and array.shape == (len(rows), columns):
            return array.astype(float)
    except (ValueError, OverflowError):  # rows of different lengths, or enormous numbers
        pass
    array = np.full((len(rows), columns), np.nan)
    for index, row in enumerate(rows):
        if len(row) == columns and all(type(value) in (int, float) for value in row):
            array[index] = row
    return array


def _check_masks(
    objects: Sequence[Mapping], sizes: np.ndarray, path: str, measured: bool
) -> list[Finding]:
    ids: dict[str, list] = {}
    for each, size in zip(objects, sizes.tolist()):
        problem = _mask_problem(each.get("segmentation"), size)
        if problem:
            ids.setdefault(problem, []).append(each["id"])
    texts = (
        (
            "no mask",
            error,
            "without a mask ('segmentation'), which the model needs",
            "Add masks, or train a model of boxes only",
        ),
        (
            "polygon",
            error if measured else warning,
            "with polygons of fewer than three points",
            "Give each polygon at least three points, or take the object out",
        ),
        (
            "rle",
            error,
            "with a run-length mask of another size than the image",
            "Its 'size' is (height, width)",
        ),
        ("mask", error, "with a 'segmentation' that is no polygons and no run lengths", ""),
    )
    return [
        finding
        for problem, make, what, todo in texts
        for finding in _some(make, path, what, ids.get(problem, ()), todo)
    ]


def _mask_problem(mask: Any, size: Sequence[float]) -> str | None:
    """What is wrong with a mask in an image of `size` (width, height)."""
    if not mask:
        return "no mask"
    if isinstance(mask, list):
        for polygon in mask:
            if type(polygon) is not list:
                return "mask"
            if len(polygon) < 6 or len(polygon) % 2:
                return "polygon"
        return None
    if isinstance(mask, Mapping) and "counts" in mask and "size" in mask:
        return None if list(mask["size"]) == [size[1], size[0]] else "rle"
    return "mask"


def check_images(
    images: Sequence[Mapping],
    folder: str,
    path: str,
    sample: int = 24,
    eight_bits: bool = False,
) -> list[Finding]:
    """Whether the images of an annotation file are there, and have the size that it says.

    Args:
        images: Entries with ``file_name``, ``height`` and ``width``.
        folder: What names are relative to.
        path: The annotation file.
        sample: How many are opened.
        eight_bits: Whether the pipeline reads 8 bits of every image.
    """
    folders, findings, there = Folders(), [], []
    missing = []
    for image in images:
        name = os.path.join(folder, image["file_name"])
        (there if folders.has(name) else missing).append((name, image))
    if missing:
        name, image = missing[0]
        findings.append(
            error(
                path,
                f"{plural(len(missing), 'image')} of {len(images):,} not in {folder}"
                f"{folders.hint(name)}",
                [image["file_name"] for _, image in missing],
                "Say in data_prefix where images lie, restore them, or take them out of the file",
            )
        )
    turned, wrong, whole = [], {}, []
    for name, image in spread(there, sample):
        try:
            size, by_exif = image_size(name)
        except BrokenImageError as problem:
            findings.append(error(name, str(problem), todo="Restore the image"))
            continue
        whole.append(name)
        said = (image["height"], image["width"])
        if size == said:
            continue
        if by_exif and size == said[::-1]:
            turned.append(image["file_name"])
        else:
            wrong[image["file_name"]] = f"{image['file_name']} is {size}, not {said}"
    if turned:
        findings.append(
            error(
                path,
                "images are turned by their EXIF orientation, which loaders follow, but sizes and "
                "boxes are those of the stored pixels",
                turned,
                "Write the images anew without EXIF orientation, or annotate them as they are seen",
            )
        )
    if wrong:
        findings.append(
            error(
                path,
                "images have another size (height, width) than it says",
                wrong.values(),
                "Take the images that were annotated; boxes and masks would not fit these",
            )
        )
    if eight_bits:
        findings += check_depth(whole)
    return findings
