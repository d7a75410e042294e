"""What a folder of data holds, as every layout describes it."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, ClassVar, Protocol

SPLITS = ("train", "val", "test")
#: one image in so many is held out where a data set has no split
HELD_OUT = 5
_WORDS = {
    "train": r"train(?:ing|val)?",
    "val": r"val(?:id|idation)?",
    "test": r"test(?:ing)?",
}
#: a word is not part of a longer one; a year may follow: train2017
_SPLIT = re.compile("|".join(f"(?<![a-z])(?P<{s}>{w})(?![a-z])" for s, w in _WORDS.items()))


class LayoutError(ValueError):
    """A folder is not of a layout that is known; the message says what was found and what is."""


@dataclass(frozen=True)
class Split:
    """One part of a data set. Paths are as configs have them: below the root, or absolute.

    Attributes:
        images: Folder of the images.
        annotations: A file in COCO's format, a folder of label maps, or a list of images and
            classes; which of these, `FolderData.kinds` says.
        num_images: How many there are.
        source: The same part in the user's own words, for messages.
        listed: A file that lists images of the folder, if not all of them count.
    """

    images: str
    annotations: str
    num_images: int
    source: str
    listed: str = ""


@dataclass(frozen=True)
class FolderData:
    """A data set, ready for a config.

    Attributes:
        root: The folder, absolute.
        layout: Name of the layout it was found in.
        kinds: What its annotations are: 'boxes', 'masks', 'label maps', 'classes'.
        classes: Names, in the order of the annotation files.
        ids: What each class is called by in the files, such as category ids.
        splits: 'train' and 'val' at least.
        notes: What was decided on the way, a sentence each.
        suffixes: Of images and label maps, where these are told by it.
        reduce_zero_label: Of label maps: 0 is no class.
    """

    root: Path
    layout: str
    kinds: frozenset[str]
    classes: tuple[str, ...]
    ids: tuple[Any, ...]
    splits: Mapping[str, Split]
    notes: tuple[str, ...] = ()
    suffixes: tuple[str, str] = ("", "")
    reduce_zero_label: bool = False

    def split(self, name: str) -> Split:
        """The part of that name; what is evaluated is 'val' if there is no 'test'."""
        return self.splits.get(name) or self.splits["val"]

    def __str__(self) -> str:
        sizes = ", ".join(f"{n} {s.num_images}" for n, s in self.splits.items())
        names = ", ".join(self.classes[:12]) + (" ..." if len(self.classes) > 12 else "")
        return (
            f"{self.root}: {self.layout}, {' and '.join(sorted(self.kinds))}; "
            f"{len(self.classes)} classes ({names}); images: {sizes}"
        )


@dataclass(frozen=True)
class Options:
    """What a user may say about a folder that does not speak for itself.

    Attributes:
        classes: Names, where the files have none.
        files: Annotation file, or folder of images, of a split.
        reduce_zero_label: Of label maps.
        cache: Folder for what is written; None chooses one.
        palette: RGB of each of the classes in label maps in colours.
    """

    classes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    reduce_zero_label: bool | None = None
    cache: str | None = None
    palette: tuple[tuple[int, ...], ...] = ()


class Layout(Protocol):
    """One way in which data lies in a folder."""

    #: in messages, and for ``layout=``
    name: ClassVar[str]
    #: 'boxes', 'label maps' or 'classes'
    kind: ClassVar[str]
    #: a picture of the folder
    tree: ClassVar[str]

    def recognises(self, folder: Folder, options: Options) -> bool:
        """Whether the folder looks like it."""

    def describe(self, folder: Folder, options: Options) -> FolderData:
        """Read it; what is not as the toolboxes take it is written anew, into the cache.

        Raises:
            LayoutError: It cannot be read as this layout after all.
        """


class Folder:
    """The files below a folder, listed once. Hidden files and folders do not count.

    Args:
        root: The folder.

    Attributes:
        root: The same, absolute.
        files: Names in every folder, sorted; folders relative to the root, parents first.
    """

    def __init__(self, root: str | os.PathLike):
        self.root = Path(root).expanduser().absolute()
        self.files: dict[Path, list[str]] = {}
        seen = set()
        for here, folders, names in os.walk(self.root, followlinks=True):
            real = os.path.realpath(here)
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
            if real in seen:  # a link to a folder above
                folders.clear()
                continue
            seen.add(real)
            names = sorted(name for name in names if not name.startswith("."))
            self.files[Path(here).relative_to(self.root)] = names

    def having(self, suffixes: Iterable[str]) -> dict[Path, list[str]]:
        """Folders with files of these suffixes, in any case, and those files."""
        wanted = tuple(suffixes)
        found = {
            here: [name for name in names if name.lower().endswith(wanted)]
            for here, names in self.files.items()
        }
        return {here: names for here, names in found.items() if names}

    def named(self, names: Sequence[str], suffix: str = "") -> list[Path]:
        """Files of these names, in any case, or of this suffix, nearest to the root first."""
        found = [
            here / name
            for here, own in self.files.items()
            for name in own
            if name.lower() in names or (suffix and name.lower().endswith(suffix))
        ]
        return sorted(found, key=lambda path: (len(path.parts), str(path)))

    def path(self, path: str | os.PathLike) -> str:
        """As a config has it, with `root` as its ``data_root``."""
        path = Path(os.path.normpath(self.root / path))
        inside = path.is_relative_to(self.root)
        short = path.relative_to(self.root).as_posix() if inside else path.as_posix()
        return "" if short == "." else short

    def summary(self) -> str:
        """What lies here, in a line."""
        if not self.files.get(Path()) and len(self.files) < 2:
            return "nothing" if self.root.is_dir() else "no such folder"
        parts = []
        for here, names in list(self.files.items())[:12]:
            kinds: dict[str, int] = {}
            for name in names:
                kinds[Path(name).suffix.lower()] = kinds.get(Path(name).suffix.lower(), 0) + 1
            if kinds:
                counts = ", ".join(f"{n} {kind or 'without suffix'}" for kind, n in kinds.items())
                parts.append(f"{here.as_posix()}/: {counts}")
        more = f"; and {len(self.files) - 12} more folders" if len(self.files) > 12 else ""
        return "; ".join(parts) + more if parts else f"{len(self.files) - 1} folders without files"


#: marks at the start of a file, and the codecs that they stand for
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """The text of a file, in UTF-8 or with a mark that says in what else.

    Raises:
        LayoutError: It is in another encoding, or no text.
    """
    content = path.read_bytes()
    codec = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        raise LayoutError(
            f"{path} is no text in UTF-8: byte {error.start} is {content[error.start]:#04x}. Save "
            "it in UTF-8; editors offer that when a file is saved under a new name."
        ) from error


def split_of(path: PurePath) -> str | None:
    """Which split a path belongs to: its name says it, or the nearest folder above that does.

    >>> split_of(PurePath("annotations/instances_val2017.json")), split_of(PurePath("valid/a.json"))
    ('val', 'val')
    """
    for part in reversed(path.parts):
        found = {m.lastgroup for m in _SPLIT.finditer(part.lower().replace("_", "-"))}
        if len(found) == 1:
            return found.pop()
    return None


def complete(splits: dict[str, Any]) -> list[str]:
    """Make 'test' stand in for 'val' where there is none; the notes say so."""
    if "train" in splits and "test" in splits and "val" not in splits:
        splits["val"] = splits["test"]
        return ["There is no split to validate on, so the test split is validated on, too."]
    return []


def check_trainable(root: Path, splits: Mapping[str, Any], why: str = "") -> None:
    """Raise an error unless there is something to train on; '' is that of no split.

    What a user has put aside to validate or test on is not divided to train on it.

    Args:
        root: Of the data set.
        splits: By name.
        why: More to say about it, a sentence.

    Raises:
        LayoutError: There is no split to train on.
    """
    if not {"train", ""} & set(splits):
        raise LayoutError(
            f"{root} has images of {', '.join(splits) or 'no split'}, and none to train on; a part "
            f"of it must be called train.{f' {why}' if why else ''}"
        )


def hold_out(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide images into those to train and to validate on, the same ones every time.

    Every fifth of the names in order is held out, so that classes in folders and frames in order
    are on both sides.

    Raises:
        LayoutError: There is one image, or none.
    """
    names = sorted(names)
    if len(names) < 2:
        raise LayoutError(
            f"{len(names)} image(s) cannot be divided into some to train and some to validate on."
        )
    held = set(names[HELD_OUT // 2 :: HELD_OUT] or names[-1:])
    return [name for name in names if name not in held], [name for name in names if name in held]


def held_out_note(train: int, val: int) -> str:
    """What `hold_out` has done, for the notes."""
    return (
        f"There is nothing to validate on, so every fifth image was held out: {train} to train and "
        f"{val} to validate on, the same ones every time."
    )
