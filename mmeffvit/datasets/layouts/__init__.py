"""Find out what lies in a folder of data, and bring it into the form that the toolboxes read."""

from __future__ import annotations

import os
from pathlib import Path

from mmeffvit.datasets.checks import SUFFIXES
from mmeffvit.datasets.layouts.base import (
    Folder,
    FolderData,
    Layout,
    LayoutError,
    Options,
    Split,
)
from mmeffvit.datasets.layouts.class_folders import ClassFolderLayout
from mmeffvit.datasets.layouts.coco import CocoLayout
from mmeffvit.datasets.layouts.label_maps import LabelMapLayout
from mmeffvit.datasets.layouts.voc import VocLayout
from mmeffvit.datasets.layouts.yolo import YoloLayout
from mmeffvit.errors import did_you_mean

__all__ = ["LAYOUTS", "FolderData", "LayoutError", "Options", "Split", "describe"]

#: tried in turn; another layout is a class with the members of `Layout`
LAYOUTS: tuple[Layout, ...] = (
    CocoLayout(),
    YoloLayout(),
    VocLayout(),
    LabelMapLayout(),
    ClassFolderLayout(),
)


def describe(
    root: str | os.PathLike,
    kind: str,
    *,
    layout: str | None = None,
    options: Options | None = None,
) -> FolderData:
    """Read a folder of data.

    Args:
        root: The folder; or a file in it, YOLO's ``data.yaml`` or annotations in COCO's format,
            whose images lie below its folder.
        kind: What the annotations are to be: 'boxes', 'label maps' or 'classes'.
        layout: Name of the layout, if the folder is of several.
        options: What the folder does not say itself.

    Raises:
        LayoutError: It holds nothing of that kind, or is of several layouts.
    """
    options = options or Options()
    root = Path(root).expanduser()
    if root.is_file() and root.suffix == ".json":
        file = root.absolute()
        root = file.parent if Folder(file.parent).having(SUFFIXES) else file.parent.parent
        named = {"train": str(file.relative_to(root))}
        options = Options(options.classes, named, None, options.cache)
    elif root.is_file() and root.suffix.lower() in (".yaml", ".yml"):
        root = root.parent
    if root.is_file():
        raise LayoutError(
            f"{root.absolute()} is a file. Give the folder of the data, an annotation file in "
            "COCO's format (.json), or YOLO's data.yaml."
        )
    folder = Folder(root)
    if not folder.root.is_dir():
        raise LayoutError(f"There is no folder {folder.root}.")
    wanted = [one for one in LAYOUTS if one.kind == kind]
    if layout is not None:
        wanted = [one for one in LAYOUTS if one.name.lower() == layout.lower()]
        if not wanted:
            names = [one.name for one in LAYOUTS]
            raise LayoutError(
                f"There is no layout {layout!r}{did_you_mean(layout, names)}; there are "
                f"{', '.join(names)}."
            )
    found = [one for one in wanted if one.recognises(folder, options)]
    if len(found) == 1:
        return found[0].describe(folder, options)
    if found:
        names = " and ".join(one.name for one in found)
        raise LayoutError(
            f"{folder.root} is of the layouts {names} at once. Say which one is meant by "
            f'--dataset-options layout="{found[0].name}".'
        )
    others = [one for one in LAYOUTS if one not in wanted and one.recognises(folder, options)]
    trees = "\n\n".join(f"{one.name}:\n{_indented(one.tree)}" for one in wanted or LAYOUTS)
    has = (
        f"It looks like {others[0].name} ({others[0].kind})."
        if others
        else f"Found: {folder.summary()}."
    )
    raise LayoutError(
        f"{folder.root} holds no {kind} in a layout that is known. {has} What is known:\n\n{trees}"
    )


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
