"""What a check has found, and how samples are drawn."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

#: entries of a list that a message shows
SHOWN = 5

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """Something about a file that does not fit, or may not.

    Attributes:
        level: An 'error' would end training, or train on wrong labels; a 'warning' is suspicious.
        file: The file or folder.
        what: What is wrong, a clause that goes on after the file's name.
        ids: Which entries of the file, if not all of it: ids, names or lines.
        todo: What to do, a sentence without its full stop.
    """

    level: Literal["error", "warning"]
    file: str
    what: str
    ids: tuple = ()
    todo: str = ""

    def __str__(self) -> str:
        entries = f" ({shorten(self.ids)})" if self.ids else ""
        todo = f" {self.todo}" if self.todo else ""
        text = f"{self.file}: {self.what}{entries}.{todo}"
        return text if text.endswith((".", "?")) else f"{text}."


def error(file: Any, what: str, ids: Iterable = (), todo: str = "") -> Finding:
    """A `Finding` that is an error."""
    return Finding("error", str(file), what, _entries(ids), todo)


def warning(file: Any, what: str, ids: Iterable = (), todo: str = "") -> Finding:
    """A `Finding` that is a warning."""
    return Finding("warning", str(file), what, _entries(ids), todo)


def merge(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once; what is wrong with several files of a folder becomes one finding."""
    together: dict[tuple, list[Finding]] = {}
    for finding in dict.fromkeys(findings):
        folder = finding.file if finding.ids else os.path.dirname(finding.file)
        key = (finding.level, folder, finding.what, finding.todo, bool(finding.ids))
        together.setdefault(key, []).append(finding)
    merged = []
    for (level, folder, what, todo, _), own in together.items():
        if len(own) == 1:
            merged += own
            continue
        names = [finding.ids or (os.path.basename(finding.file),) for finding in own]
        ids = tuple(dict.fromkeys(name for some in names for name in some))
        merged.append(Finding(level, folder or own[0].file, what, ids, todo))
    return merged


def _entries(ids: Iterable) -> tuple:
    """Numbers and text; files may hold anything."""
    return tuple(entry if isinstance(entry, (int, str)) else str(entry) for entry in ids)


def shorten(items: Iterable) -> str:
    """The first few of a list, and how many more there are."""
    items = list(items)
    text = ", ".join(map(str, items[:SHOWN]))
    return text if len(items) <= SHOWN else f"{text} and {len(items) - SHOWN} more"


def spread(items: Sequence[T], number: int) -> list[T]:
    """At most so many of a list, evenly from the first to the last: the same ones each time."""
    if len(items) <= number:
        return list(items)
    step = (len(items) - 1) / max(1, number - 1)
    return [items[round(index * step)] for index in range(number)]


def plural(number: int, one: str, many: str | None = None) -> str:
    """``1 image``, ``2 images``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
