"""Objects in images, of any layout, to a file in COCO's format."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from mmengine.utils import track_iter_progress

from mmeffvit.datasets.checks.images import BrokenImageError, image_size
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
)
from mmeffvit.datasets.layouts.cache import Cache

Read = Callable[[Path, tuple[int, int]], Any]
"""Image and (width, height) to `supervision.Detections`."""


def import_supervision(layout: str) -> ModuleType:
    """The library that reads layouts.

    Raises:
        LayoutError: It is not installed.
    """
    try:
        import supervision
        import supervision.dataset.formats.coco
        import supervision.dataset.formats.pascal_voc
        import supervision.dataset.formats.yolo
    except ImportError as error:
        raise LayoutError(
            f"Data in {layout}'s layout is read by the library supervision, which is not "
            "installed: pip install 'supervision>=0.26', or the extra of this package that has "
            "it, pip install '.[data]'."
        ) from error
    return supervision


def convert(
    folder: Folder,
    options: Options,
    layout: str,
    classes: Sequence[str],
    splits: Mapping[str, Sequence[Path]],
    sources: Iterable[Path],
    read: Read,
) -> FolderData:
    """Write the splits of a data set as files in COCO's format, once.

    Args:
        folder: Of the data set.
        options: Of the user.
        layout: Its name.
        classes: Names, in order.
        splits: Images of each split; those of a single one are divided.
        sources: Files that the objects are read from.
        read: Of one image.
    """
    splits = {name: sorted(images) for name, images in splits.items() if images}
    notes = []
    check_trainable(folder.root, splits)
    if len(splits) == 1:
        (images,) = splits.values()
        parts = hold_out([str(path) for path in images])
        splits = {name: [Path(p) for p in part] for name, part in zip(("train", "val"), parts)}
        notes.append(held_out_note(*map(len, parts)))
    cache = Cache(folder.root, options.cache)

    def make() -> dict[str, Any]:
        written, counts = {}, {}
        for name, images in splits.items():
            content = _to_coco(folder, images, classes, read, f"{layout} to COCO, {name}: ")
            written[name] = str(cache.write_json(f"annotations/{name}.json", content))
            own = content["annotations"]
            counts[name] = [len(own), sum(bool(a["segmentation"]) for a in own)]
        return {"files": list(written.values()), "written": written, "counts": counts}

    images = [folder.root / path for own in splits.values() for path in own]
    made = cache.once(layout.split()[-1].lower(), [*images, *sources], (classes, splits), make)
    objects, with_mask = (sum(c[i] for c in made["counts"].values()) for i in (0, 1))
    if not objects:
        raise LayoutError(f"{folder.root} is of {layout}'s layout, but no image has an object.")
    notes.append(f"Written in COCO's format to {cache.folder}; used again while nothing changes.")
    found = {
        name: Split("", folder.path(made["written"][name]), len(images), f"{name} of {layout}")
        for name, images in splits.items()
    }
    notes = [*complete(found), *notes]
    if 0 < with_mask < objects:
        notes.append(
            f"{with_mask} of {objects} objects have a mask; as the others have none, the set is "
            "taken as one of boxes."
        )
    return FolderData(
        root=folder.root,
        layout=layout,
        kinds=frozenset({"boxes", "masks"} if with_mask == objects else {"boxes"}),
        classes=tuple(classes),
        ids=tuple(range(len(classes))),
        splits={name: found[name] for name in ("train", "val", "test") if name in found},
        notes=tuple(notes),
    )


def _to_coco(
    folder: Folder, images: Sequence[Path], classes: Sequence[str], read: Read, title: str
) -> dict[str, Any]:
    """One image after the other, so that no more than its masks are in memory."""
    from supervision.dataset.formats.coco import detections_to_coco_annotations

    entries, annotations, number = [], [], 1
    iterate = images
    if len(images) > 500:
        iterate = track_iter_progress((iter(images), len(images)), prefix=title)
    for image_id, path in enumerate(iterate, start=1):
        size = _size(folder.root / path)
        objects = read(path, size)
        numbers = objects.class_id.tolist() if len(objects) else []
        strange = [number for number in numbers if not 0 <= number < len(classes)]
        if strange:
            raise LayoutError(
                f"The labels of {path.as_posix()} name class {strange[0]}, but there are "
                f"{len(classes)} classes, counted from 0: {', '.join(classes)}."
            )
        # else objects of several parts would count as crowds, which are not trained on
        objects.data.setdefault("iscrowd", np.zeros(len(objects), dtype=int))
        with warnings.catch_warnings(record=True):  # a mask smaller than a pixel has no outline
            made, number = detections_to_coco_annotations(objects, image_id, number)
        name = path.as_posix()
        entry = {"id": image_id, "file_name": name, "width": size[0], "height": size[1]}
        entries.append(entry)
        annotations += [{key: _plain(value) for key, value in one.items()} for one in made]
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    info = {"description": "converted by mmeffvit"}
    return {
        "info": info,
        "images": entries,
        "annotations": annotations,
        "categories": categories,
    }


def _plain(value: Any) -> Any:
    """Numbers of Python for those of numpy."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return (
        round(float(value), 3)
        if isinstance(value, np.floating)
        else getattr(value, "item", lambda: value)()
    )


def _size(path: Path) -> tuple[int, int]:
    """Width and height, from the head of the file."""
    try:
        (height, width), _ = image_size(path, whole=False)
    except BrokenImageError as error:
        raise LayoutError(f"{path} {error}.") from error
    return width, height
