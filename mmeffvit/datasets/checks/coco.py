"""Checks of annotation files in COCO's JSON, and of their images.

What is an error and what a warning follows from what mmdet's `CocoDataset` and pycocotools do with
it. One pass over the file; of the images all names are looked for, and some are opened.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmeffvit.datasets.checks.findings import (
    Finding,
    error,
    plural,
    shorten,
    spread,
    warning,
)
from mmeffvit.datasets.checks.images import BrokenImageError, Folders, image_size
from mmeffvit.datasets.checks.names import check_classes, check_names

#: keys that readers ask for without a default
_NEEDED = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area"),
    "categories": ("id", "name"),
}
#: keys that pycocotools asks for when it measures
_MEASURED = ("iscrowd",)
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
) -> list[Finding]:
    """Check an annotation file.

    Args:
        path: The JSON file.
        classes: Names of the classes in the config, in their order; None if they are not known.
        images: The folder that ``file_name`` is relative to; None for no look at the images.
        with_masks: Whether the model needs a mask of every object.
        measured: Whether an evaluator reads the file.
        training: Whether a model is trained on it: there must be objects.
        sample: How many images are opened.
    """
    path = str(path)
    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as problem:
        return [error(path, f"cannot be read as JSON: {problem}", todo="Restore or write it again")]
    findings = _check_form(content, path)
    if findings:
        return findings
    if classes is not None:
        findings += check_classes(classes, path)
        if findings:
            return findings
        names = [category["name"] for category in content["categories"]]
        findings += check_names(classes, names, path, in_order=True)
    objects = _Objects(content, classes, with_masks, measured)
    findings += _check_ids(content, path)
    findings += objects.findings(path, training)
    if images is not None:
        findings += check_images(content["images"], str(images), path, sample)
    return findings


def _check_form(content: Any, path: str) -> list[Finding]:
    """Whether there are lists of dicts with the keys that readers ask for."""
    if not isinstance(content, Mapping):
        return [error(path, f"is a {type(content).__name__} and not a dict in COCO's form")]
    findings = []
    for part, keys in _NEEDED.items():
        entries = content.get(part)
        if not isinstance(entries, list):
            there = f"it has {shorten(content)}" if content else "it is empty"
            findings.append(
                error(path, f"has no list {part!r}; {there}", todo="Export it in COCO's form")
            )
            continue
        strange = [index for index, entry in enumerate(entries) if not isinstance(entry, Mapping)]
        if strange:
            findings.append(error(path, f"has {part} that are no dicts", strange))
            continue
        for key in keys:
            lacking = [
                entry.get("id", f"no. {index}")
                for index, entry in enumerate(entries)
                if entry.get(key) is None
            ]
            if lacking:
                findings.append(error(path, f"{part} have no {key!r}", lacking, _FILL.get(key, "")))
    return findings


_FILL = {
    "area": "Add the area in pixels: of the mask, or width times height of the box",
    "iscrowd": "Add iscrowd=0, or 1 for groups of objects",
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
    return [entry for entry, count in Counter(map(_hashable, ids)).items() if count > 1]


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (int, str, float)) else str(value)


@dataclass
class _Objects:
    """What one pass over the annotations finds: kind of fault -> ids."""

    content: Mapping
    classes: Sequence[str] | None
    with_masks: bool
    measured: bool
    ids: dict[str, list] = field(default_factory=dict)

    def findings(self, path: str, training: bool) -> list[Finding]:
        sizes = {i["id"]: (i["width"], i["height"]) for i in self.content["images"]}
        used = {
            category["id"]
            for category in self.content["categories"]
            if self.classes is None or category["name"] in set(self.classes)
        }
        counted = 0
        for annotation in self.content["annotations"]:
            size = sizes.get(annotation["image_id"])
            if size is None or annotation["category_id"] not in used:
                continue
            counted += 1
            for problem in self._problems(annotation, size):
                self.ids.setdefault(problem, []).append(annotation["id"])
        return [*self._report(path, counted), *self._nothing(path, used, counted, training)]

    def _problems(self, annotation: Mapping, size: Sequence[float]) -> Iterator[str]:
        box = annotation["bbox"]
        if len(box) != 4 or not all(_is_number(value) for value in (*box, annotation["area"])):
            yield "no box"
            return
        x, y, w, h = box
        if w < 1 or h < 1 or annotation["area"] <= 0:
            yield "no area"
        elif x >= size[0] or y >= size[1] or x + w <= 0 or y + h <= 0:
            yield "outside"
        elif min(x, y) < -_SLACK or x + w > size[0] + _SLACK or y + h > size[1] + _SLACK:
            yield "partly outside"
        if self.measured and any(annotation.get(key) is None for key in _MEASURED):
            yield "iscrowd"
        if self.with_masks:
            yield from _mask_problems(annotation.get("segmentation"), size)

    def _report(self, path: str, counted: int) -> Iterator[Finding]:
        beyond = len(self.ids.get("outside", ())) + len(self.ids.get("partly outside", ()))
        if beyond > counted / 2 and self._all_corners():
            yield error(
                path,
                f"{beyond} of {counted} boxes reach beyond their images, but would fit as "
                "(x0, y0, x1, y1)",
                todo="Write COCO's boxes as (x, y, width, height)",
            )
        for problem, (make, what, todo) in self._words().items():
            if problem in self.ids:
                ids = self.ids[problem]
                yield make(path, f"{plural(len(ids), 'object')} {what}", ids, todo)

    def _all_corners(self) -> bool:
        sizes = {i["id"]: (i["width"], i["height"]) for i in self.content["images"]}
        boxes = [
            (a["bbox"], sizes[a["image_id"]])
            for a in self.content["annotations"]
            if a["image_id"] in sizes and len(a["bbox"]) == 4
        ]
        return all(_fits_as_corners(box, size) for box, size in boxes)

    def _words(self) -> dict:
        polygon = error if self.measured else warning
        lost = "Such objects are left out of training; mend them or take them out"
        return {
            "no box": (error, "without a box of four finite numbers", ""),
            "no area": (warning, "with a box or an area of less than a pixel", lost),
            "outside": (warning, "outside of the image", lost),
            "partly outside": (warning, "reaching beyond the edge of the image", ""),
            "iscrowd": (error, "without 'iscrowd', which is needed to measure", _FILL["iscrowd"]),
            "no mask": (
                error,
                "without a mask ('segmentation'), which the model needs",
                "Add masks, or train a model of boxes only",
            ),
            "polygon": (
                polygon,
                "with polygons of fewer than three points",
                "Give each polygon at least three points, or take the object out",
            ),
            "rle": (
                error,
                "with a run-length mask of another size than the image",
                "Its 'size' is (height, width)",
            ),
            "mask": (error, "with a 'segmentation' that is no polygons and no run lengths", ""),
        }

    def _nothing(self, path: str, used: set, counted: int, training: bool) -> Iterator[Finding]:
        if not self.content["images"]:
            yield error(path, "has no images")
        elif used and (not counted or counted == len(self.ids.get("no area", ()))):
            make = error if training else warning
            yield make(path, "has no object of the classes of the config")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _fits_as_corners(box: Sequence[float], size: Sequence[float]) -> bool:
    x0, y0, x1, y1 = box
    return x0 < x1 <= size[0] + _SLACK and y0 < y1 <= size[1] + _SLACK


def _mask_problems(mask: Any, size: Sequence[float]) -> Iterator[str]:
    if not mask:
        yield "no mask"
    elif isinstance(mask, list):
        if not all(isinstance(polygon, list) for polygon in mask):
            yield "mask"
        elif any(len(polygon) < 6 or len(polygon) % 2 for polygon in mask):
            yield "polygon"
    elif isinstance(mask, Mapping) and "counts" in mask and "size" in mask:
        if list(mask["size"]) != [size[1], size[0]]:
            yield "rle"
    else:
        yield "mask"


def check_images(
    images: Sequence[Mapping], folder: str, path: str, sample: int = 24
) -> list[Finding]:
    """Whether the images of an annotation file are there, and have the size that it says.

    Args:
        images: Entries with ``file_name``, ``height`` and ``width``.
        folder: What names are relative to.
        path: The annotation file.
        sample: How many are opened.
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
    turned, wrong = [], {}
    for name, image in spread(there, sample):
        try:
            size, by_exif = image_size(name)
        except BrokenImageError as problem:
            findings.append(error(name, str(problem), todo="Restore the image"))
            continue
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
    return findings
