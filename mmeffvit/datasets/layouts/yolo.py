"""YOLO's layout: a text file beside each image, or in labels/ beside images/."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from mmeffvit.datasets.checks import SUFFIXES
from mmeffvit.datasets.layouts.base import (
    Folder,
    FolderData,
    LayoutError,
    Options,
    read_text,
    split_of,
)
from mmeffvit.datasets.layouts.convert import convert, import_supervision

_NAMES = ("classes.txt", "obj.names", "labels.txt", "names.txt", "classes.names")
#: label files that are looked into to tell them from other text
_LOOKED_INTO = 5
#: and to tell oriented boxes from outlines
_OUTLINES = 50
#: coordinates beyond this are pixels and not shares; a little over 1 is an outline that was rounded
_BEYOND = 2
_ORIENTED = (
    "Every outline has four corners, as oriented boxes (YOLO OBB) have: they are taken for masks, "
    "and for the upright boxes around these, which a detector of mmdet learns. To learn the angle, "
    "use a config of mmrotate, whose DOTADataset reads the same corners in pixels."
)


class YoloLayout:
    """Boxes ``class x y w h`` and polygons ``class x y x y ...``, in parts of the image's size."""

    name: ClassVar[str] = "YOLO"
    kind: ClassVar[str] = "boxes"
    tree: ClassVar[str] = """\
data.yaml (or classes.txt)                    or images/train/*.jpg, labels/train/*.txt,
train/images/*.jpg  train/labels/*.txt        or *.jpg with *.txt beside them"""

    def recognises(self, folder: Folder, options: Options) -> bool:
        """Whether images have text files of numbers."""
        looked = 0
        for image in _images(folder):
            label = _label(folder, image)
            if label is not None:
                looked += 1
                if _is_label(label):
                    return True
                if looked > _LOOKED_INTO:
                    break
        return False

    def describe(self, folder: Folder, options: Options) -> FolderData:
        """Convert it; see `Layout`."""
        supervision = import_supervision(self.name)
        from supervision.dataset.formats.yolo import yolo_annotations_to_detections

        yaml, damaged = _read_yaml(folder)
        classes = options.classes or _classes(folder, yaml, damaged)
        splits = _splits(folder, yaml)
        labels = {image: _label(folder, image) for own in splits.values() for image in own}

        def read(image: Path, size: tuple[int, int]) -> Any:
            path = labels[image]
            if path is None:
                return supervision.Detections.empty()
            lines = [line for line in read_text(path).splitlines() if line.strip()]
            _check_shares(path, lines)
            masks = any(len(line.split()) > 6 for line in lines)
            try:
                return yolo_annotations_to_detections(lines, size, masks)
            except ValueError as error:
                raise LayoutError(f"{path}: {error}") from error

        sources = [path for path in labels.values() if path is not None]
        data = convert(folder, options, self.name, classes, splits, sources, read)
        notes = [*data.notes, *_strays(folder, set(sources))]
        if _look_oriented(sources):
            notes.append(_ORIENTED)
        return replace(data, notes=tuple(notes))


def _check_shares(path: Path, lines: Sequence[str]) -> None:
    """Raise an error if coordinates are no shares of the image's width and height.

    Raises:
        LayoutError: They are far beyond 1, as pixels are.
    """
    for number, line in enumerate(lines, start=1):
        values = line.split()[1:]
        try:
            large = [value for value in values if abs(float(value)) > _BEYOND]
        except ValueError:
            return  # told by the library that reads the line
        if large:
            raise LayoutError(
                f"{path}, line {number}: {large[0]} is no share of the image's width or height, "
                "from 0 to 1, as YOLO has them. Divide pixels by the width (x) and height (y)."
            )


def _strays(folder: Folder, used: Collection[Path]) -> list[str]:
    """What is to be said about label files that belong to no image."""
    text = [
        folder.root / here / name
        for here, names in folder.having([".txt"]).items()
        for name in names
        if here.parts and "labels" in [part.lower() for part in here.parts]
    ]
    lost = [path for path in text if path not in used and path.name.lower() not in _NAMES]
    if not lost:
        return []
    shown = lost[0].relative_to(folder.root).as_posix()
    return [f"{len(lost)} label files have no image of their name, and are left out: {shown} ..."]


def _look_oriented(sources: Sequence[Path]) -> bool:
    """Whether every outline has four corners, in files that are looked into."""
    looked = [read_text(path) for path in sources[:_OUTLINES]]
    lines = [line for text in looked for line in text.splitlines() if line.strip()]
    return bool(lines) and all(len(line.split()) == 9 for line in lines)


def _images(folder: Folder) -> list[Path]:
    return [here / name for here, names in folder.having(SUFFIXES).items() for name in names]


def _label(folder: Folder, image: Path) -> Path | None:
    """The label file of an image: beside it, or in labels/ for the last images/ of its path."""
    parts = list(image.with_suffix(".txt").parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i].lower() == "images":
            other = folder.root.joinpath(*parts[:i], "labels", *parts[i + 1 :])
            if other.is_file():
                return other
    beside = folder.root / image.with_suffix(".txt")
    return beside if beside.is_file() else None


def _is_label(path: Path) -> bool:
    try:
        rows = [line.split() for line in read_text(path).splitlines() if line.strip()]
        values = [[float(v) for v in row[1:]] for row in rows]
    except ValueError:
        return False
    # a name in place of a number is told as an error when the line is read
    whole = all(row[0].lstrip("-").isdigit() or len(row) == 5 for row in rows)
    return bool(rows) and whole and all(len(v) >= 4 for v in values)


def _read_yaml(folder: Folder) -> tuple[tuple[Path, Mapping[str, Any]] | None, str]:
    """The file with 'names', nearest to the root; if there is none, why others were no help."""
    import yaml

    damaged = ""
    for path in [*folder.named((), ".yaml"), *folder.named((), ".yml")]:
        try:
            content = yaml.safe_load(read_text(folder.root / path))
        except (LayoutError, yaml.YAMLError) as error:
            line = " ".join(str(error).split())
            damaged = damaged or f" {path.as_posix()} could not be read: {line}"
            continue
        if isinstance(content, dict) and content.get("names"):
            return (path, content), ""
    return None, damaged


def _classes(
    folder: Folder, yaml: tuple[Path, Mapping[str, Any]] | None, damaged: str
) -> tuple[str, ...]:
    if yaml is not None:
        return _names_of(*yaml)
    for path in folder.named(_NAMES):
        lines = read_text(folder.root / path).splitlines()
        if any(line.strip() for line in lines):
            return tuple(line.strip() for line in lines if line.strip())
    raise LayoutError(
        f"{folder.root} has label files of YOLO, which number the classes, and no data.yaml or "
        "classes.txt that names them. Write one (classes.txt: a name in each line, that of class 0 "
        f'first), or say --dataset-options classes="[cat,dog]".{damaged}'
    )


def _names_of(path: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in a data.yaml.

    Raises:
        LayoutError: They are no list, or not numbered from 0, or as many as it says itself.
    """
    names, file = content["names"], path.as_posix()
    if isinstance(names, dict):
        if sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise LayoutError(
                f"{file} has the names under {', '.join(map(repr, names))}; they have to be under "
                "their numbers 0, 1, 2 ... without a gap, as in '0: cat'."
            )
        names = [name for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
    if not isinstance(names, list):
        raise LayoutError(f"{file} has names: {names!r}; write a list, such as names: [cat, dog].")
    for number, name in enumerate(names):
        if isinstance(name, (bool, dict, list)) or name is None or not str(name).strip():
            raise LayoutError(
                f"{file}: the name of class {number} is {name!r}, which is no text. Put names into "
                "quotes; without them YAML makes True and False of yes and no."
            )
    if str(content.get("nc") or len(names)) != str(len(names)):
        raise LayoutError(f"{file} says nc: {content['nc']}, and has {len(names)} names.")
    return tuple(map(str, names))


def _splits(folder: Folder, yaml: tuple[Path, Mapping[str, Any]] | None) -> dict[str, list[Path]]:
    """Images of each split, by data.yaml if its folders are there, else by names of folders."""
    if yaml is not None:
        found = {}
        for split, keys in (("train", ("train",)), ("val", ("val", "valid")), ("test", ("test",))):
            value = next((yaml[1][key] for key in keys if yaml[1].get(key)), None)
            images = _of_entry(folder, yaml, value) if value else []
            if images:
                found[split] = images
        if found:
            same = found.get("val") == found.get("train") and "val" in found
            return {"train": found["train"]} if same else found
    splits: dict[str, list[Path]] = {}
    for image in _images(folder):
        splits.setdefault(split_of(image.parent) or "train", []).append(image)
    return splits


def _of_entry(folder: Folder, yaml: tuple[Path, Mapping[str, Any]], value: Any) -> list[Path]:
    """Images of an entry of data.yaml: a folder, a list in a file, or several of these."""
    if isinstance(value, (list, tuple)):
        return [image for item in value for image in _of_entry(folder, yaml, item)]
    path, content = yaml
    bases = [folder.root / path.parent / str(content.get("path") or ""), folder.root / path.parent]
    short = str(value).replace("\\", "/")
    while short.startswith(("../", "./")):  # exports are one folder off
        short = short.partition("/")[2]
    own = _images(folder)
    for base in (*bases, folder.root):
        for entry in (str(value), short):
            target = Path(os.path.normpath(base / entry))
            if not target.is_relative_to(folder.root):
                continue
            inside = target.relative_to(folder.root)
            if target.is_dir():
                return [image for image in own if inside in image.parents]
            if target.is_file() and target.suffix == ".txt":
                lines = read_text(target).split("\n")
                listed = {os.path.normpath(target.parent / line.strip()) for line in lines}
                listed |= {os.path.normpath(base / line.strip()) for line in lines}
                return [image for image in own if str(folder.root / image) in listed]
    return []
