"""Checks of folders of images per class, as mmpretrain's `CustomDataset` reads them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmeffvit.datasets.checks.findings import Finding, error, plural, shorten, spread, warning
from mmeffvit.datasets.checks.images import (
    SUFFIXES,
    BrokenImageError,
    Folders,
    check_depth,
    image_size,
)
from mmeffvit.datasets.checks.names import close_name

#: names of folders that are parts of a data set and no classes
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def class_folders(root: str) -> list[str]:
    """Names of the folders in a folder, in the order of their labels; hidden ones too."""
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir())


def check_class_folders(
    root: str,
    classes: Sequence[str] | None = None,
    others: Sequence[str] | None = None,
    extensions: Sequence[str] = SUFFIXES,
    sample: int = 24,
    eight_bits: bool = False,
) -> list[Finding]:
    """Check a folder that has a folder of images for each class.

    Args:
        root: The folder.
        classes: Names in the config, None if it has none and the folders' own are taken.
        others: Folders of the data set that is trained on, if this is another one: labels are
            positions among the folders, and so must be the same.
        extensions: Suffixes of images, in small letters.
        sample: How many images are opened.
        eight_bits: Whether the pipeline reads 8 bits of every image.
    """
    if not os.path.isdir(root):
        return [error(root, "is no folder")]
    folders = class_folders(root)
    if not folders:
        todo = "Make a folder for each class, or set data_prefix to the folder that has them"
        return [error(root, "has no folders of classes", todo=todo)]
    findings = []
    hidden = [name for name in folders if name.startswith((".", "__MACOSX"))]
    if hidden:
        findings.append(
            error(
                root, "hidden folders count as classes, and shift the others", hidden, "Delete them"
            )
        )
    if others is None and len(folders) > 1 and {f.lower() for f in folders} <= _SPLITS:
        findings.append(
            error(
                root,
                "its folders look like parts of a data set, not like classes",
                folders,
                "Set data_prefix to one of them",
            )
        )
    visible = [name for name in folders if name not in hidden]
    if classes is not None:
        findings += _check_folder_names(root, visible, classes)
    if others is not None:
        shown = [name for name in others if not name.startswith((".", "__MACOSX"))]
        findings += _check_same(root, visible, shown)
    files = {name: _images(Path(root, name), extensions) for name in visible}
    empty = [name for name, own in files.items() if not own]
    if len(empty) == len(visible):
        kinds = Counter(p.suffix for p in Path(root).rglob("*") if p.is_file())
        there = f"; there are {shorten(kinds)}" if kinds else ""
        findings.append(error(root, f"has no images{there}", todo="Set extensions, or add images"))
    elif empty:
        findings.append(warning(root, "folders without images", empty))
    paths = [path for own in files.values() for path in own]
    findings += _check_readable(paths, sample, eight_bits)
    return findings


def _images(folder: Path, extensions: Sequence[str]) -> list[str]:
    files = (path for path in folder.rglob("*") if path.suffix.lower() in extensions)
    return sorted(str(path) for path in files if not path.name.startswith("."))


def _check_folder_names(root: str, folders: list[str], classes: Sequence[str]) -> list[Finding]:
    if len(folders) != len(classes):
        return [
            error(
                root,
                f"has {plural(len(folders), 'folder')} ({shorten(folders)}) for "
                f"{plural(len(classes), 'class', 'classes')} ({shorten(classes)})",
                todo="Set metainfo=dict(classes=...) to the names of the folders, in alphabetic "
                "order, or take the data set 'CustomDataset', which reads them",
            )
        ]
    if list(classes) == folders or not any(close_name(name, classes) for name in folders):
        return []  # names of people for folders that are numbers
    wrong = [f"{own} would be called {name}" for own, name in zip(folders, classes) if own != name]
    return [
        error(
            root,
            "labels follow the alphabetic order of the folders, and classes of the config do not",
            wrong,
            f"Write classes={tuple(folders)!r}",
        )
    ]


def _check_same(root: str, folders: list[str], others: list[str]) -> list[Finding]:
    if folders == others:
        return []
    lacking = [name for name in others if name not in folders]
    more = [name for name in folders if name not in others]
    texts = [f"lacks {shorten(lacking)}"] * bool(lacking)
    texts += [f"has {shorten(more)} besides"] * bool(more)
    return [
        error(
            root,
            f"{' and '.join(texts)}, compared with what is trained on; labels are positions among "
            "the folders, and would be shifted",
            todo="Give both the same folders, empty ones where there are no images",
        )
    ]


def _check_readable(paths: Sequence[str], sample: int, eight_bits: bool) -> list[Finding]:
    findings, whole = [], []
    for path in spread(paths, sample):
        try:
            image_size(path)
            whole.append(path)
        except BrokenImageError as problem:
            findings.append(error(path, str(problem), todo="Restore or delete the image"))
    return findings + check_depth(whole) if eight_bits else findings


def check_class_list(
    ann_file: str,
    root: str,
    num_classes: int | None = None,
    sample: int = 24,
    eight_bits: bool = False,
) -> list[Finding]:
    """Check a list with an image and its label in each line.

    Args:
        ann_file: The list.
        root: What images are relative to.
        num_classes: Labels are below.
        sample: How many images are opened.
        eight_bits: Whether the pipeline reads 8 bits of every image.
    """
    findings, paths, strange, outside = [], [], [], []
    for number, line in enumerate(Path(ann_file).read_text().splitlines(), 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name or not label.isdigit():
            strange.append(number)
            continue
        paths.append(os.path.join(root, name))
        if num_classes is not None and int(label) >= num_classes:
            outside.append(number)
    if strange:
        findings.append(
            error(ann_file, "lines are not 'path label' with a number as label", strange)
        )
    if outside:
        findings.append(
            error(ann_file, f"labels are no classes; there are {num_classes}, from 0", outside)
        )
    if not paths and not strange:
        findings.append(error(ann_file, "names no images"))
    folders = Folders()
    missing = folders.missing(paths)
    if missing:
        findings.append(
            error(
                ann_file,
                f"{plural(len(missing), 'image')} of {len(paths):,} not in {root}",
                missing,
                "Set data_prefix to where the images lie",
            )
        )
    there = [path for path in paths if folders.has(path)]
    return findings + _check_readable(there, sample, eight_bits)
