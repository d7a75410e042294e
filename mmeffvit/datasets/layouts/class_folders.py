"""A folder of images for each class, in train/ and val/ or not."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from mmeffvit.datasets.checks import SUFFIXES
from mmeffvit.datasets.layouts.base import (
    Folder,
    FolderData,
    LayoutError,
    Options,
    Split,
    check_trainable,
    complete,
    held_out_note,
    hold_out,
    split_of,
)
from mmeffvit.datasets.layouts.cache import Cache

#: folders of other layouts, which are no classes
_ROLES = {"images", "image", "img", "labels", "annotations", "masks", "jpegimages", "img_dir"}
_ROLES |= {"ann_dir", "segmentationclass", "leftimg8bit", "gtfine"}


class ClassFolderLayout:
    """``train/cat/*.jpg``, ``val/cat/*.jpg``, or ``cat/*.jpg``."""

    name: ClassVar[str] = "class folders"
    kind: ClassVar[str] = "classes"
    tree: ClassVar[str] = """\
train/cat/*.jpg  train/dog/*.jpg              or cat/*.jpg  dog/*.jpg
val/cat/*.jpg    val/dog/*.jpg"""

    def recognises(self, folder: Folder, options: Options) -> bool:
        """Whether folders with images have sisters."""
        splits = _find(folder)
        return any(len(classes) > 1 for classes in splits.values())

    def describe(self, folder: Folder, options: Options) -> FolderData:
        """List images and classes, so that a class has one number in all splits; see `Layout`."""
        splits = _find(folder)
        notes = []
        if "" in splits and len(splits) > 1:
            strays = ", ".join(sorted(splits.pop("")))
            notes.append(f"Folders outside of train/, val/ and test/ are left out: {strays}.")
        check_trainable(folder.root, splits)
        if len(splits) == 1:
            (own,) = splits.values()
            parts = {name: hold_out(images) for name, images in own.items() if len(images) > 1}
            if len(parts) < len(own):
                few = ", ".join(sorted(set(own) - set(parts)))
                raise LayoutError(f"{few}: a single image cannot be both trained and validated on.")
            splits = {
                split: {name: images[i] for name, images in parts.items()}
                for i, split in enumerate(("train", "val"))
            }
            sizes = [sum(map(len, own.values())) for own in splits.values()]
            notes.append(held_out_note(*sizes))
        classes = options.classes or tuple(sorted(splits["train"]))
        for split, own in splits.items():
            unknown = sorted(set(own) - set(classes))
            if unknown:
                raise LayoutError(
                    f"{folder.root / split} has folders that are no class to train on: "
                    f"{', '.join(unknown)}. Those to train on are {', '.join(classes)}."
                )
            absent = sorted(set(classes) - set(own))
            if absent:
                notes.append(f"{split} has no images of {', '.join(absent)}.")
        cache = Cache(folder.root, options.cache)
        found = {}
        for split, own in splits.items():
            lines = [f"{path} {classes.index(n)}" for n in sorted(own) for path in own[n]]
            text = "".join(f"{line}\n" for line in lines)
            path = cache.write_text(f"lists/{split}.txt", text)
            found[split] = Split("", folder.path(path), len(lines), split)
        notes = [*complete(found), *notes]
        notes.append(
            f"Images and the numbers of their classes are listed in {cache.folder}: a class that a "
            "split lacks does not shift those after it."
        )
        return FolderData(
            root=folder.root,
            layout=self.name,
            kinds=frozenset({"classes"}),
            classes=classes,
            ids=classes,
            splits={name: found[name] for name in ("train", "val", "test") if name in found},
            notes=tuple(notes),
        )


def _find(folder: Folder) -> dict[str, dict[str, list[str]]]:
    """Split (or '') -> class -> its images, relative to the root."""
    splits: dict[str, dict[str, list[str]]] = {}
    for here, names in folder.having(SUFFIXES).items():
        if not here.parts or _ROLES & {part.lower() for part in here.parts}:
            continue
        split = split_of(Path(here.parts[0])) if len(here.parts) > 1 else None
        if len(here.parts) == 1 and split_of(here):
            continue  # images in train/ itself
        name = here.parts[1] if split else here.parts[0]
        images = [(here / image).as_posix() for image in names]
        splits.setdefault(split or "", {}).setdefault(name, []).extend(images)
    return splits
