"""Checks of folders of images and label maps, as mmseg's `BaseSegDataset` reads them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmeffvit.datasets.checks.findings import Finding, error, plural, shorten, spread, warning
from mmeffvit.datasets.checks.images import (
    SUFFIXES,
    BrokenImageError,
    Folders,
    check_depth,
    image_size,
)

Pair = tuple[str, str | None]
"""An image, and its label map if there are label maps."""


def list_label_maps(
    images: str,
    maps: str | None,
    img_suffix: str = ".jpg",
    seg_map_suffix: str = ".png",
    ann_file: str = "",
) -> tuple[list[Pair], list[Finding]]:
    """Images with their label maps, and what is wrong with the names of the files.

    Args:
        images: Folder of images; folders in it are looked into.
        maps: Folder of label maps, None without.
        img_suffix: How names of images end.
        seg_map_suffix: How names of label maps end.
        ann_file: A list of names without suffix; '' for all images of the folder.
    """
    if ann_file and os.path.isfile(ann_file):
        names = [line.strip() for line in Path(ann_file).read_text().splitlines()]
        pairs = [_pair(images, maps, n, img_suffix, seg_map_suffix) for n in names if n]
        where = ann_file
    else:
        files = [path for path in Path(images).rglob("*") if path.is_file()]
        files = [path for path in files if not path.name.startswith(".")]
        chosen = sorted(p for p in files if p.name.endswith(img_suffix))
        others = Counter(p.suffix for p in files if not p.name.endswith(img_suffix))
        kinds = {kind: n for kind, n in others.items() if kind.lower() in SUFFIXES}
        if not chosen:
            return [], [_no_images(images, img_suffix, kinds)]
        names = [str(p.relative_to(images))[: -len(img_suffix)] for p in chosen]
        pairs = [_pair(images, maps, n, img_suffix, seg_map_suffix) for n in names]
        where = images
        if kinds and maps != images:
            counts = [f"{number} {kind}" for kind, number in sorted(kinds.items())]
            left = warning(
                images,
                f"images are left out, as img_suffix is {img_suffix!r}",
                counts,
                "Give all images one suffix",
            )
            return pairs, [left, *_missing(pairs, where)]
    if not pairs:
        return [], [error(where, "names no images")]
    return pairs, _missing(pairs, where)


def _pair(images: str, maps: str | None, name: str, img_suffix: str, map_suffix: str) -> Pair:
    own = None if maps is None else os.path.join(maps, name + map_suffix)
    return os.path.join(images, name + img_suffix), own


def _no_images(images: str, img_suffix: str, kinds: dict[str, int]) -> Finding:
    if not kinds:
        return error(images, "has no images", todo="Set data_prefix to the folder of images")
    there = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    most = max(kinds, key=kinds.get)
    return error(
        images,
        f"has no images whose names end in {img_suffix!r}; there are {there}",
        todo=f"Set img_suffix={most!r} in the data set",
    )


def _missing(pairs: Sequence[Pair], where: str) -> list[Finding]:
    folders, findings = Folders(), []
    for index, (kind, key) in enumerate((("image", "img_suffix"), ("label map", "seg_map_suffix"))):
        paths = [pair[index] for pair in pairs if pair[index] is not None]
        missing = folders.missing(paths)
        if missing:
            findings.append(
                error(
                    where,
                    f"{plural(len(missing), kind)} of {len(paths):,} not there"
                    f"{folders.hint(missing[0])}",
                    missing,
                    f"Set data_prefix and {key} as the files are named, or take away what has no "
                    "partner",
                )
            )
    return findings


def check_label_maps(
    pairs: Sequence[Pair],
    num_classes: int,
    reduce_zero_label: bool = False,
    ignore_index: int = 255,
    training: bool = True,
    backend: str = "pillow",
    sample: int = 24,
    eight_bits: bool = False,
) -> list[Finding]:
    """Look into some label maps.

    Args:
        pairs: As :func:`list_label_maps` gives them.
        num_classes: Classes that the values of the maps stand for.
        reduce_zero_label: Whether 0 is ignored and 1 is the first class.
        ignore_index: The value, after that, of pixels that do not count.
        training: Whether a model is trained on them: one class alone teaches nothing.
        backend: What the pipeline decodes maps with, 'pillow' or 'cv2'.
        sample: How many are opened.
        eight_bits: Whether the pipeline reads 8 bits of every image.
    """
    findings: list[Finding] = []
    readable: list[str] = []
    values: dict[int, str] = {}
    folder = os.path.dirname(next((own for _, own in pairs if own), ""))
    folders = Folders()
    there = [pair for pair in pairs if all(map(folders.has, filter(None, pair)))]
    forms: dict[tuple[str, str], list[str]] = {}
    for image, own in spread(there, sample):
        try:
            size, _ = image_size(image)
        except BrokenImageError as problem:
            findings.append(error(image, str(problem), todo="Restore the image"))
            continue
        readable.append(image)
        if own is None:
            continue
        try:
            labels = read_labels(own, backend)
        except BrokenImageError as problem:
            findings.append(error(own, str(problem), todo="Restore the label map"))
            continue
        form = _form(labels)
        if form:
            forms.setdefault(form, []).append(os.path.basename(own))
            continue
        if labels.shape != size:
            text = (
                f"the label map is {labels.shape} (height, width) and its image {size}",
                "Write label maps in the size of the images, without interpolation",
            )
            forms.setdefault(text, []).append(os.path.basename(own))
        for value in np.unique(labels):
            values.setdefault(int(value), os.path.basename(own))
    findings += [error(folder, what, names, todo) for (what, todo), names in forms.items()]
    whole = len(there) <= sample
    findings += _check_values(
        values, num_classes, reduce_zero_label, ignore_index, folder, training, whole
    )
    return findings + check_depth(readable) if eight_bits else findings


def read_labels(path: str, backend: str = "pillow") -> np.ndarray:
    """A label map as a pipeline reads it, before it is made 8 bit.

    Raises:
        BrokenImageError: It cannot be read.
    """
    if not os.path.getsize(path):
        raise BrokenImageError("is empty")
    if backend != "pillow":
        array = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        if array is None:
            raise BrokenImageError("is not an image")
        return array.squeeze()
    try:
        with Image.open(path) as image:
            return np.array(image).squeeze()
    except (OSError, SyntaxError, ValueError) as problem:
        raise BrokenImageError(f"cannot be read to its end: {problem}") from problem


def _form(labels: np.ndarray) -> tuple[str, str] | None:
    """What is wrong with the kind of image, and what to do."""
    if labels.ndim != 2:
        colours = labels[..., :3]
        grey = labels.ndim == 3 and bool((colours == colours[..., :1]).all())
        what = f"has {labels.shape[-1]} channels; a label map has one, with a class in each pixel"
        if grey:
            return what, "Save one of its equal channels"
        return what, "Replace every colour by the number of its class, and save one channel"
    if labels.dtype.kind not in "uib":
        return f"has values of type {labels.dtype}", "Save classes as 8-bit whole numbers"
    if labels.dtype.itemsize > 1 and labels.max(initial=0) > 255:
        what = f"has {8 * labels.dtype.itemsize}-bit labels up to {labels.max()}"
        return (
            f"{what}, of which readers keep the lowest 8 bits",
            "Save labels of 0 to 255 in 8 bit",
        )
    return None


def _check_values(
    values: dict[int, str],
    num_classes: int,
    reduce_zero_label: bool,
    ignore_index: int,
    folder: str,
    training: bool,
    whole: bool,
) -> list[Finding]:
    """Whether the values of all maps that were read are classes.

    Args:
        values: Value -> a map that has it.
        whole: Whether these are all maps.
    """
    if not values:
        return []
    seen = sorted(values)
    first = 1 if reduce_zero_label else 0
    classes = set(range(first, first + num_classes))
    ignored = {0, 255} if reduce_zero_label else {ignore_index}
    strange = [value for value in seen if value not in classes | ignored]
    meaning = f"classes are {first} to {first + num_classes - 1}"
    meaning += f", and {shorten(sorted(ignored))} {'are' if len(ignored) > 1 else 'is'} ignored"
    known = [value for value in seen if value in classes]
    if strange:
        todo = f"Write the number of the class into each pixel; values here are {shorten(seen)}"
        if not reduce_zero_label and strange == [num_classes] and 0 not in values:
            todo = "If 1 is the first class, set reduce_zero_label=True in the data set"
        maps = [f"{value} in {values[value]}" for value in strange]
        what = f"label maps have values that are no classes; {meaning}"
        return [error(folder, what, maps, todo)]
    if num_classes > 1 and seen == [0, 255]:
        return [
            error(
                folder,
                f"label maps have only 0 and 255; {meaning}, so that there is one class at most",
                todo="Write 1 in place of 255, or the number of the class",
            )
        ]
    if not known:
        return [error(folder, f"no label map has a class; {meaning}, values are {shorten(seen)}")]
    if reduce_zero_label and max(known) < num_classes and 0 in values:
        unused = num_classes
        if set(range(num_classes)) <= set(seen):
            make = error if whole and training else warning
            return [
                make(
                    folder,
                    f"reduce_zero_label ignores 0, and no map has {unused}, the last class, but "
                    f"all values from 0 to {num_classes - 1}",
                    todo="If 0 is a class, set reduce_zero_label=False in the data set",
                )
            ]
    if training and len(known) == 1 and num_classes > 1:
        return [warning(folder, f"all label maps that were read have one class only, {known[0]}")]
    if not reduce_zero_label and whole and training and num_classes > 1 and 0 not in values:
        return [
            warning(
                folder,
                "no label map has 0, the first class",
                todo="If 1 is the first class, set reduce_zero_label=True in the data set",
            )
        ]
    return []
