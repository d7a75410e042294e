"""Annotations in COCO's format, under any file names."""

from __future__ import annotations

import copy
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from mmeffvit.datasets.checks import SUFFIXES
from mmeffvit.datasets.checks.coco import check_form
from mmeffvit.datasets.layouts.base import (
    Folder,
    FolderData,
    LayoutError,
    Options,
    Split,
    complete,
    held_out_note,
    hold_out,
    split_of,
)
from mmeffvit.datasets.layouts.cache import Cache

#: COCO's own files of another task
_OTHER_TASKS = ("captions", "panoptic", "person_keypoints", "stuff", "image_info")
#: images that are looked for in a folder to find out whether they lie in it
_LOOKED_FOR = 50
#: of more JSON files than this (one for each image, say), only those of telling names are read
_MANY = 20
_TELLING = ("annotation", "coco", "instances", "train", "val", "test")

#: keys that are asked for here; what else a file must have is checked before training
_NEEDED = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id"),
    "categories": ("id", "name"),
}

Annotations = dict[str, Any]


class CocoLayout:
    """``*.json`` with images, annotations and categories; the images lie where they are found."""

    name: ClassVar[str] = "COCO"
    kind: ClassVar[str] = "boxes"
    tree: ClassVar[str] = """\
annotations/train.json  images/*.jpg          or one file beside its images in each of
annotations/val.json                          train/ valid/ test/ (_annotations.coco.json)"""

    def recognises(self, folder: Folder, options: Options) -> bool:
        """Whether there is such a file."""
        return bool(_candidates(folder, options))

    def describe(self, folder: Folder, options: Options) -> FolderData:
        """Read all of it; see `Layout`."""
        files = _assign(_candidates(folder, options))
        notes: list[str] = []
        contents = {name: file.content for name, file in files.items()}
        sources = {name: file.path.as_posix() for name, file in files.items()}
        images: dict[str, Path] = {}
        changed: set[str] = set()
        for name, file in files.items():
            if file.repairs:
                changed.add(name)
                notes += [f"{sources[name]}: {repair}." for repair in file.repairs]
            images[name], drop = _image_folder(folder, file.path, file.content)
            if drop:
                changed.add(name)
                notes.append(
                    f"{sources[name]} names images by paths that are not here; {drop} folder(s) "
                    "were left out of each."
                )
                for image in file.content["images"]:
                    image["file_name"] = _without(image["file_name"], drop)
        if len(files) == 1:
            contents, sizes, lost = _divide(contents["train"])
            if lost:
                notes.append(
                    f"{lost} objects of {sources['train']} belong to images that are not in it, "
                    "and are left out."
                )
            images = dict.fromkeys(contents, images["train"])
            sources = dict.fromkeys(contents, f"a part of {sources['train']}")
            changed = set(contents)
            notes.append(held_out_note(*sizes))
        categories, said = _categories(contents, sources)
        notes += said
        for name, content in contents.items():
            repairs = _repair(content, categories)
            if repairs:
                changed.add(name)
                notes += [f"{sources[name]}: {repair}." for repair in repairs]
        paths: dict[str, str] = {}
        if changed:
            cache = Cache(folder.root, options.cache)
            for name in changed:
                path = cache.write_json(f"annotations/{name}.json", contents[name])
                paths[name] = folder.path(path)
            notes.append(
                f"What was changed is written to {cache.folder}; your files are as before."
            )
        found = {
            name: Split(
                images=folder.path(images[name]),
                annotations=paths.get(name) or folder.path(files[name].path),
                num_images=len(content["images"]),
                source=sources[name],
            )
            for name, content in contents.items()
        }
        notes += complete(found)
        kinds, said = _kinds(contents)
        return FolderData(
            root=folder.root,
            layout=self.name,
            kinds=kinds,
            classes=tuple(c["name"] for c in categories),
            ids=tuple(c["id"] for c in categories),
            splits={name: found[name] for name in ("train", "val", "test") if name in found},
            notes=(*notes, *said),
        )


def _read(path: Path) -> tuple[Annotations | None, list[str]]:
    """A file in COCO's format, or None if it is of another; and what the toolboxes cannot read.

    Raises:
        LayoutError: It is damaged, or its entries lack what is asked for here.
    """
    raw = path.read_bytes()
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise LayoutError(f"{path} is no whole JSON file: {error}.") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in _NEEDED):
        return None, []
    repairs = []
    if json.detect_encoding(raw) != "utf-8":
        repairs.append("it is not in plain UTF-8, and was written so")
    for category in content["categories"]:
        if isinstance(category, dict) and type(category.get("name")) in (int, float):
            category["name"] = str(category["name"])
            repairs.append(f"the name {category['name']} of a category is text now")
    problems = check_form(content, str(path), _NEEDED)
    if problems:
        raise LayoutError(" ".join(map(str, problems)))
    return content, repairs


@dataclass(frozen=True)
class _File:
    """An annotation file: relative to the root, with the split that it is known to be of.

    `repairs` are differences between its content and what the toolboxes would read.
    """

    path: Path
    content: Annotations
    split: str | None
    repairs: Sequence[str] = ()


def _candidates(folder: Folder, options: Options) -> list[_File]:
    """Annotation files below the folder, or those that the user named."""
    named = {s: Path(p) for s, p in options.files.items() if str(p).endswith(".json")}
    for path in named.values():
        if not (folder.root / path).is_file():
            raise LayoutError(f"There is no file {folder.root / path}.")
    paths = folder.named((), ".json")
    if len(paths) > _MANY:
        paths = [p for p in paths if any(word in p.name.lower() for word in _TELLING)][:_MANY]
    found = [(split_of(path), path) for path in paths if not path.name.startswith(_OTHER_TASKS)]
    found = list(named.items()) or found
    read = [(split, path, *_read(folder.root / path)) for split, path in found]
    return [_File(path, content, split, said) for split, path, content, said in read if content]


def _assign(files: Sequence[_File]) -> dict[str, _File]:
    """Which file is of which split."""
    if len(files) == 1:
        (file,) = files
        if file.split not in (None, "train"):
            raise LayoutError(
                f"The only annotation file, {file.path.as_posix()}, is one of {file.split} by its "
                "name, and there is none to train on. To divide it into a part to train on and "
                f"one to validate on, say --dataset-options train={file.path.as_posix()}."
            )
        return {"train": file}
    found: dict[str, _File] = {}
    for file in files:
        if file.split is None or file.split in found:
            raise LayoutError(
                "Which of the annotation files is of which split is not clear: "
                f"{', '.join(f.path.as_posix() for f in files)}. Say it by --dataset-options "
                "train=FILE val=FILE, or have train, val and test in their names."
            )
        found[file.split] = file
    if "train" not in found:
        raise LayoutError(
            f"Of {', '.join(f.path.as_posix() for f in files)} none is named as the file to train "
            "on. Say it by --dataset-options train=FILE val=FILE, or have train in its name."
        )
    return found


def _without(name: str, drop: int) -> str:
    return "/".join(PurePosixPath(name.replace("\\", "/")).parts[drop:])


def _image_folder(folder: Folder, file: Path, content: Annotations) -> tuple[Path, int]:
    """Where the images of a file lie, and how many folders of their names are not there.

    Raises:
        LayoutError: They are nowhere.
    """
    names = [str(image.get("file_name", "")) for image in content["images"]]
    if not names or not all(names):
        raise LayoutError(
            f"{file.as_posix()} names no images: its entry 'images' is empty, or without file_name."
        )
    looked_for = names[:: max(1, len(names) // _LOOKED_FOR)]
    near = [folder.root / file.parent, *(folder.root / file).parents]
    split = split_of(file)
    places = [Path(p) for p in dict.fromkeys(near) if folder.root in (p, *p.parents)]
    own = [folder.root / here for here in folder.having(SUFFIXES)]
    # parents, too: names may hold folders; those of the same split first
    above = [p for o in own for p in o.parents if folder.root in (p, *p.parents)]
    own.sort(key=lambda p: split_of(p.relative_to(folder.root)) != split)
    places += [p for p in dict.fromkeys([*own, *above]) if p not in places]
    depth = max(len(PurePosixPath(name.replace("\\", "/")).parts) for name in looked_for)
    best, missing = 0, looked_for[0]
    for drop in range(depth):
        for place in places:
            there = [os.path.isfile(place / _without(name, drop)) for name in looked_for]
            if all(there):
                return place, drop
            if sum(there) > best:
                best, missing = sum(there), looked_for[there.index(False)]
    raise LayoutError(
        f"{file.as_posix()} names images that are not there: {missing}, for one"
        f"{f' ({best} of {len(looked_for)} that were looked for are)' if best else ''}. They were "
        f"looked for below {folder.root}."
    )


def _divide(content: Annotations) -> tuple[dict[str, Annotations], tuple[int, int], int]:
    """One file into two; how many images they have, and how many objects are of no image."""
    parts = hold_out([image["file_name"] for image in content["images"]])
    divided = {}
    for name, names in zip(("train", "val"), map(set, parts)):
        images = [image for image in content["images"] if image["file_name"] in names]
        ids = {image["id"] for image in images}
        kept = [copy.copy(a) for a in content["annotations"] if a["image_id"] in ids]
        divided[name] = {**content, "images": images, "annotations": kept}
    lost = len(content["annotations"]) - sum(len(c["annotations"]) for c in divided.values())
    return divided, (len(parts[0]), len(parts[1])), lost


def _categories(
    contents: Mapping[str, Annotations], sources: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Categories of all files, as the one to train on has them, less those that are none."""
    notes = []
    first = contents["train"]["categories"]
    if not first:
        raise LayoutError(f"{sources['train']} has no categories.")
    used = Counter(a["category_id"] for c in contents.values() for a in c["annotations"])
    parents = {c.get("supercategory") for c in first if c.get("supercategory") != c["name"]}
    names = Counter(str(c["name"]) for c in first)
    kept = []
    for category in first:
        name = str(category["name"])
        empty = not used[category["id"]] and len(first) > 1
        if empty and (name in parents or names[name] > 1):
            notes.append(
                f"Category {name!r} (id {category['id']}) is left out: it is the group of the "
                "others, as some exports have it, and no object is of it."
            )
        else:
            kept.append({**category, "name": name})
    repeated = [name for name, count in Counter(c["name"] for c in kept).items() if count > 1]
    if repeated:
        raise LayoutError(
            f"{sources['train']} has several categories called {repeated[0]!r} (ids "
            f"{', '.join(str(c['id']) for c in kept if c['name'] == repeated[0])}), each with "
            "objects. Give them different names, or one id."
        )
    ids = {c["name"]: c["id"] for c in kept}
    for split, content in contents.items():
        counted = Counter(a["category_id"] for a in content["annotations"])
        for category in content["categories"]:
            name = str(category["name"])
            if name not in ids and counted[category["id"]]:
                raise LayoutError(
                    f"{sources[split]} has {counted[category['id']]} objects of the category "
                    f"{name!r}, which {sources['train']} does not have ({', '.join(ids)})."
                )
    return kept, notes


def _repair(content: Annotations, categories: Sequence[Mapping[str, Any]]) -> list[str]:
    """Put right in place what the toolboxes or COCO's evaluation would stumble over."""
    said = []
    own = {c["id"]: str(c["name"]) for c in content["categories"]}
    ids = {c["name"]: c["id"] for c in categories}
    wanted = [(c["id"], c["name"]) for c in categories]
    kept = [(i, name) for i, name in own.items() if name in ids]
    if kept != wanted:
        said.append("its categories are now those to train on, in their order")
        for annotation in content["annotations"]:
            if own.get(annotation["category_id"]) in ids:
                annotation["category_id"] = ids[own[annotation["category_id"]]]
    if kept != wanted or len(content["categories"]) != len(wanted):
        names = Counter(own.values())
        if kept != wanted or max(names.values()) > 1:
            content["categories"] = [dict(category) for category in categories]
            if not said:
                said.append("a category of a name that is there twice was left out")
    annotations = content["annotations"]
    numbers = [a.get("id") for a in annotations]
    numbers = [number if isinstance(number, (int, str)) else None for number in numbers]
    if len(set(numbers)) != len(numbers) or any(not n for n in numbers):
        # COCO's evaluation takes a match with id 0 for none
        for number, annotation in enumerate(annotations, start=1):
            annotation["id"] = number
        said.append("objects without an id of their own, or of id 0, were numbered from 1")
    filled = Counter()
    for annotation in annotations:
        box = annotation.get("bbox")
        if "iscrowd" not in annotation:
            annotation["iscrowd"] = 0
            filled["iscrowd"] += 1
        if "area" not in annotation and isinstance(box, list) and len(box) == 4:
            annotation["area"] = box[2] * box[3]
            filled["area"] += 1
    said += [f"{count} objects were given their {key}" for key, count in filled.items()]
    return said


def _kinds(contents: Mapping[str, Annotations]) -> tuple[frozenset[str], list[str]]:
    """Boxes, and masks if all objects have one."""
    objects = [a for c in contents.values() for a in c["annotations"]]
    with_mask = sum(bool(a.get("segmentation")) for a in objects)
    if objects and with_mask == len(objects):
        return frozenset({"boxes", "masks"}), []
    if not with_mask:
        return frozenset({"boxes"}), []
    return frozenset({"boxes"}), [
        f"{with_mask} of {len(objects)} objects have a mask; as the others have none, the set is "
        "taken as one of boxes."
    ]
