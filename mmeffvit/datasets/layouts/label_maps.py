"""Folders of images and of label maps: an image in which every pixel is the number of a class."""

from __future__ import annotations

import bisect
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

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
    read_text,
    split_of,
)
from mmeffvit.datasets.layouts.cache import Cache
from mmeffvit.datasets.layouts.palettes import IGNORED as _IGNORED
from mmeffvit.datasets.layouts.palettes import Palette, read_palette, what_to_write
from mmeffvit.files import whole_file

#: words for folders of label maps, and of images
_LABELS = re.compile(
    r"(?<![a-z])(annotations?|ann[_-]dir|anns?|labels?|label[_-]maps?|masks?|gt|gtfine|"
    r"seg[_-]?maps?|segs?|segmentations?|segmentationclass|semantic)(?![a-z])"
)
_PHOTOS = re.compile(r"(?<![a-z])(images?|imgs?|img[_-]dir|leftimg8bit|jpegimages|rgb)(?![a-z])")
#: of several maps of an image, the first of these; never the others
_PREFERRED = ("labeltrainids", "trainids", "labelids", "label", "mask")
_NEVER = ("color", "colour", "instance", "polygon", "panoptic")
_NAMES = ("classes.txt", "labels.txt", "class_names.txt", "objectinfo150.txt")
#: and with their colours: of Kaggle's sets, CVAT and CamVid
_PALETTES = (*_NAMES[:3], "class_dict.csv", "labelmap.txt", "label_colors.txt", "colors.txt")
#: maps that are looked into to find out which values there are
_SAMPLED = 300


@dataclass(frozen=True)
class _Pairs:
    """Images and their maps: folders, and names without suffix, relative to them."""

    images: Path
    maps: Path
    stems: tuple[str, ...]
    alone: int


class LabelMapLayout:
    """ADE20K's, Cityscapes' and mmseg's own layouts, and what is like them."""

    name: ClassVar[str] = "label maps"
    kind: ClassVar[str] = "label maps"
    tree: ClassVar[str] = """\
images/training/*.jpg                         or img_dir/train/*.jpg  ann_dir/train/*.png
annotations/training/*.png                    or train/images/*  train/masks/*
(validation alike)                            or images/*  masks/*, without splits
classes.txt: a name in each line, that of the value 0 first; with three numbers in each line, of
maps in colours, red, green and blue"""

    def recognises(self, folder: Folder, options: Options) -> bool:
        """Whether images have maps."""
        return bool(_pair_folders(folder))

    def describe(self, folder: Folder, options: Options) -> FolderData:
        """Read sampled maps; maps of other values than 0, 1, 2 ... are written anew."""
        pairs = _pair_folders(folder)
        suffixes = _suffixes(folder, pairs)
        groups = _match(folder, pairs, suffixes)
        notes: list[str] = []
        for name, own in groups.items():
            if own.alone:
                of = f" of {name}" if name else ""
                notes.append(f"{own.alone} images{of} have no label map and are left out.")
        groups = {name: own for name, own in groups.items() if own.stems}
        check_trainable(folder.root, groups, " ".join(notes))
        lists = {n: list(own.stems) for n, own in groups.items()}
        whole = {n: not own.alone for n, own in groups.items()}
        if len(groups) == 1:
            (own,) = groups.values()
            lists = _published_lists(folder, own) or dict(
                zip(("train", "val"), hold_out(own.stems))
            )
            whole = dict.fromkeys(lists, False)
            groups = dict.fromkeys(lists, own)
            if not folder.named(["trainval.txt"]):
                notes.append(held_out_note(*(len(stems) for stems in lists.values())))
        maps = {n: _paths(folder, groups[n].maps, lists[n], suffixes[1]) for n in groups}
        every = [path for own in maps.values() for path in own]
        palette = _palette(folder, options)
        if palette is not None and any(_is_coloured(path) for path in every[:1]):
            plan = _plan_of_colours(palette)
        else:
            palette = None
            values = _values(every[:: max(1, len(every) // _SAMPLED)])
            names = options.classes or _names(folder)
            plan = _plan(values, names, options.reduce_zero_label)
            if plan.mapped:
                plan = _plan(_values(every), names, options.reduce_zero_label)
        notes += plan.notes
        cache = Cache(folder.root, options.cache)
        places = {n: folder.path(own.maps) for n, own in groups.items()}
        if plan.mapped:
            places = _write_maps(folder, cache, groups, lists, suffixes[1], plan, palette)
            notes.append(f"The maps are written anew to {cache.folder}; yours are as before.")
        found = {}
        for name, own in groups.items():
            listed = ""
            if not whole[name]:
                text = "".join(f"{stem}\n" for stem in lists[name])
                listed = folder.path(cache.write_text(f"lists/{name}.txt", text))
            found[name] = Split(
                folder.path(own.images), places[name], len(lists[name]), name, listed
            )
        notes = [*complete(found), *notes]
        return FolderData(
            root=folder.root,
            layout=self.name,
            kinds=frozenset({"label maps"}),
            classes=plan.classes,
            ids=plan.values,
            splits={name: found[name] for name in ("train", "val", "test") if name in found},
            notes=tuple(notes),
            suffixes=suffixes if not plan.mapped else (suffixes[0], _png(suffixes[1])),
            reduce_zero_label=plan.reduce_zero_label,
        )


# -- which map is of which image -------------------------------------------------------------------


def _key(path: Path, role: re.Pattern) -> tuple[str, ...]:
    """A path without what says that it holds images, or label maps."""
    parts = (role.sub("", part.lower()).strip("_- ") for part in path.parts)
    return tuple(part for part in parts if part)


def _pair_folders(folder: Folder) -> list[tuple[Path, Path]]:
    """Folders of images with their folders of label maps."""
    having = folder.having(SUFFIXES)
    labels = {}
    for here in having:
        if any(_LABELS.search(part.lower()) for part in here.parts):
            labels.setdefault(_key(here, _LABELS), here)
    return [
        (here, labels[_key(here, _PHOTOS)])
        for here in having
        if here not in labels.values() and _key(here, _PHOTOS) in labels
    ]


def _suffixes(folder: Folder, pairs: Sequence[tuple[Path, Path]]) -> tuple[str, str]:
    """Suffixes of images and maps that pair most of them."""
    best: tuple[int, int, tuple[str, str]] = (0, 0, ("", ""))
    images, maps = ([folder.files[p[i]] for p in pairs] for i in (0, 1))
    flat = [name for names in images for name in names if name.lower().endswith(SUFFIXES)]
    endings = [e for e, _ in Counter(Path(name).suffix for name in flat).most_common(3)]
    # Cityscapes: name_leftImg8bit.png
    longer = Counter(name[name.rfind("_") :] for name in flat if "_" in name)
    for ending in [*endings, *(e for e, count in longer.most_common(1) if count == len(flat))]:
        tails: Counter = Counter()
        for own, others in zip(images, maps):
            others = [name for name in others if name.lower().endswith(SUFFIXES)]  # sorted
            for name in own:
                if name.endswith(ending):
                    stem = name[: -len(ending)]
                    first = bisect.bisect_left(others, stem)
                    for other in others[first : first + 20]:
                        if not other.startswith(stem):
                            break
                        tails[other[len(stem) :]] += 1
        for tail, count in tails.items():
            if any(word in tail.lower() for word in _NEVER):
                continue
            ranks = [-i for i, word in enumerate(_PREFERRED) if word in tail.lower()]
            best = max(best, (count, max(ranks, default=-len(_PREFERRED)), (ending, tail)))
    if not best[0]:
        raise LayoutError(
            f"{folder.root} has images in {pairs[0][0].as_posix()}/ and label maps in "
            f"{pairs[0][1].as_posix()}/, but no map has the name of an image (with another ending)."
        )
    return best[2]


def _match(
    folder: Folder, pairs: Sequence[tuple[Path, Path]], suffixes: tuple[str, str]
) -> dict[str, _Pairs]:
    """Images with a map, by split; '' is that of a data set without splits."""
    grouped: dict[str, list[tuple[Path, Path]]] = {}
    for images, maps in pairs:
        grouped.setdefault(split_of(images) or split_of(maps) or "", []).append((images, maps))
    if len(grouped) > 1:
        grouped.pop("", None)
    found = {}
    for name, own in grouped.items():
        tops = [Path(os.path.commonpath([folder.root / p[i] for p in own])) for i in (0, 1)]
        stems, alone = [], 0
        for images, maps in own:
            inside = (folder.root / images).relative_to(tops[0])
            if inside != (folder.root / maps).relative_to(tops[1]):
                raise LayoutError(
                    f"The folders of label maps are not arranged as those of images: "
                    f"{images.as_posix()}/ and {maps.as_posix()}/ in {folder.root}. mmseg wants "
                    "one folder of images and one of label maps, alike inside."
                )
            there = set(folder.files[maps])
            for image in folder.files[images]:
                if image.endswith(suffixes[0]):
                    stem = image[: -len(suffixes[0])]
                    if stem + suffixes[1] in there:
                        stems.append((inside / stem).as_posix())
                    else:
                        alone += 1
                elif image.lower().endswith(SUFFIXES):
                    alone += 1
        found[name] = _Pairs(tops[0], tops[1], tuple(sorted(stems)), alone)
    return found


def _published_lists(folder: Folder, own: _Pairs) -> dict[str, list[str]]:
    """Pascal VOC's ImageSets/Segmentation."""
    lists = {}
    for name in ("train", "val"):
        for path in folder.named([f"{name}.txt"]):
            lines = read_text(folder.root / path).split()
            lists[name] = [stem for stem in lines if stem in set(own.stems)]
    return lists if len(lists) == 2 and all(lists.values()) else {}


def _paths(folder: Folder, maps: Path, stems: Iterable[str], suffix: str) -> list[Path]:
    return [folder.root / maps / f"{stem}{suffix}" for stem in stems]


# -- which values are which classes ----------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """Classes of the values, and whether the maps have to be written anew for it."""

    classes: tuple[str, ...]
    values: tuple[int, ...]
    mapped: bool = False
    reduce_zero_label: bool = False
    notes: tuple[str, ...] = ()


def read_map(path: Path, palette: Palette | None = None) -> np.ndarray:
    """The numbers of a label map (H, W).

    Args:
        path: Its file.
        palette: Of a map in colours, their classes.

    Raises:
        LayoutError: It is no label map; the message says what it is.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
            if palette is not None:
                return palette.numbers(np.array(image.convert("RGB")), path)
            values = np.array(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise LayoutError(f"{path} cannot be read as an image: {error}.") from error
    if values.ndim == 3:
        if mode in ("RGB", "RGBA") and (values[..., :1] == values[..., 1:3]).all():
            hint = "its channels are equal: save one of them"
        else:
            hint = what_to_write(values[..., :3]) if values.shape[-1] > 2 else "save one of them"
        raise LayoutError(
            f"{path} is no label map but a picture of mode {mode}: a map has one channel, with the "
            f"number of a class in every pixel (0, 1, 2 ..., 255 for none); {hint}."
        )
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise LayoutError(
            f"{path} is a JPEG, which does not keep the numbers of a label map. Save maps as PNG."
        )
    return values.astype(np.int64)


def _is_coloured(path: Path) -> bool:
    """Whether a map has colours, be it by a table of its own."""
    try:
        with Image.open(path) as image:
            return image.mode in ("P", "RGB", "RGBA")
    except (OSError, ValueError, SyntaxError):
        return False  # told when it is read


def _palette(folder: Folder, options: Options) -> Palette | None:
    if options.palette:
        if len(options.palette) != len(options.classes):
            raise LayoutError(
                f"palette has {len(options.palette)} colours, and classes {len(options.classes)} "
                "names; say one colour for each name."
            )
        return Palette.of(list(zip(options.classes, options.palette)))
    for path in folder.named(_PALETTES):
        palette = read_palette(read_text(folder.root / path))
        if palette is not None:
            return palette
    return None


def _plan_of_colours(palette: Palette) -> _Plan:
    pairs = [
        f"{colour} {palette.names[number] if number != _IGNORED else 'no class'!r}"
        for colour, number in palette.colours[:12]
    ]
    why = f"Colours became the numbers of their classes: {', '.join(pairs)}."
    return _Plan(palette.names, tuple(range(len(palette.names))), True, notes=(why,))


def _values(paths: Sequence[Path]) -> Counter:
    """Values of maps, with the number of maps that have them."""
    found: Counter = Counter()
    for path in paths:
        found.update(np.unique(read_map(path)).tolist())
    return found


def _names(folder: Folder) -> tuple[str, ...]:
    """Names of the classes, of a file that has one in every line."""
    for path in folder.named(_NAMES):
        lines = read_text(folder.root / path).splitlines()
        if path.name.lower() == "objectinfo150.txt":  # ADE20K's table; names are its last column
            lines = [line.split("\t")[-1].split(",")[0] for line in lines[1:]]
        names = tuple(line.strip() for line in lines if line.strip())
        if names:
            return names
    return ()


def _plan(found: Mapping[int, int], names: Sequence[str], reduce_zero: bool | None) -> _Plan:
    """Which classes there are.

    Raises:
        LayoutError: Values and names do not fit together.
    """
    values = sorted(v for v in found if v != _IGNORED)
    listed = ", ".join(map(str, values[:12])) + (" ..." if len(values) > 12 else "")
    if not values or values[-1] > _IGNORED or values[0] < 0:
        raise LayoutError(
            f"The label maps have the values {listed or _IGNORED}; mmseg reads numbers of classes "
            f"from 0 to {_IGNORED - 1}, and {_IGNORED} for pixels that do not count."
        )
    count = len(names)
    if values == [0] and _IGNORED in found and count <= 2:
        names = tuple(names) if count == 2 else ("background", *(names or ("foreground",)))
        why = (
            f"The label maps have the values 0 and 255, and mmseg takes 255 for pixels that do not "
            f"count: 255 became 1, {names[1]!r}, and 0 is {names[0]!r}."
        )
        return _Plan(names, (0, _IGNORED), True, False, (why,))
    top = values[-1]
    if reduce_zero:
        names = names or tuple(f"class {i}" for i in range(1, top + 1))
        if top > len(names):
            raise LayoutError(_unnamed(listed, names))
        return _Plan(tuple(names), tuple(range(1, len(names) + 1)), False, True)
    if not names:
        if 2 * len(values) > top:
            names = tuple(f"class {i}" for i in range(top + 1))
            why = (
                f"No file names the classes, so they are called after their values: "
                f"{names[0]} to {names[-1]}. A classes.txt would name them."
            )
            return _Plan(names, tuple(range(top + 1)), notes=(why,))
        names = tuple(f"class {v}" for v in values)
        why = f"The values {listed} became 0 to {len(values) - 1}, in this order."
        return _Plan(names, tuple(values), True, notes=(why,))
    if top < count:
        return _Plan(tuple(names), tuple(range(count)))
    if (top, count) == (1, 1) and reduce_zero is None:
        why = (
            f"One class is named, {names[0]!r}, and the label maps have the values 0 and 1: 0 is "
            "taken for a class 'background', as one class alone is told apart from nothing. A "
            "classes.txt with both names, that of 0 first, says so; reduce_zero_label=True leaves "
            "out the pixels of 0."
        )
        return _Plan(("background", *names), (0, 1), notes=(why,))
    if top == count and reduce_zero is None:
        why = (
            f"The label maps go up to {top} and {count} classes are named, so 0 is taken for "
            "pixels of no class (reduce_zero_label), as ADE20K has it."
        )
        return _Plan(tuple(names), tuple(range(1, count + 1)), False, True, (why,))
    if len(values) == count:
        pairs = ", ".join(f"{v} {n!r}" for v, n in zip(values[:12], names))
        why = f"The values became 0 to {count - 1}, in the order of the names: {pairs}."
        return _Plan(tuple(names), tuple(values), True, notes=(why,))
    raise LayoutError(_unnamed(listed, names))


def _unnamed(listed: str, names: Sequence[str]) -> str:
    return (
        f"The label maps have the values {listed}, and {len(names)} classes are named "
        f"({', '.join(names[:8])}{' ...' if len(names) > 8 else ''}): which value is which class "
        "is not clear. Name as many classes as there are values, or number the maps 0, 1, 2 ..."
    )


def _png(suffix: str) -> str:
    return Path(f"x{suffix}").with_suffix(".png").name[1:]


def _write_maps(
    folder: Folder,
    cache: Cache,
    groups: Mapping[str, _Pairs],
    lists: Mapping[str, Sequence[str]],
    suffix: str,
    plan: _Plan,
    palette: Palette | None,
) -> dict[str, str]:
    """Maps with the numbers of the classes; the folder of each split."""
    table = np.full(_IGNORED + 1, _IGNORED, dtype=np.uint8)
    table[list(plan.values)] = np.arange(len(plan.values))
    targets = {name: cache.path(f"label_maps/{name}") for name in groups}
    work = {
        path: targets[name] / f"{stem}{_png(suffix)}"
        for name, own in groups.items()
        for stem, path in zip(lists[name], _paths(folder, own.maps, lists[name], suffix))
    }

    def make() -> dict[str, Any]:
        for path, target in work.items():
            with whole_file(target) as scratch:
                Image.fromarray(table[read_map(path, palette)]).save(scratch, format="PNG")
        return {"files": [str(target) for target in work.values()]}

    made_of = (plan.values, palette, sorted(map(str, work.values())))
    cache.once("label-maps", work, made_of, make)
    return {name: folder.path(target) for name, target in targets.items()}
