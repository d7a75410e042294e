"""Edits of a config: one by one, as a list, and as a diff that people read."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.registry import DefaultScope

from mmeffvit.configs import Place, lookup, plain
from mmeffvit.swap.errors import SwapError


class _Absent(enum.Enum):
    ABSENT = "absent"  # also after a deep copy, which a bare object is not


ABSENT = _Absent.ABSENT
"""In place of a value that is not there."""


@dataclass(frozen=True)
class Edit:
    """One change of a config.

    Attributes:
        place: Of the value.
        old: Before; `ABSENT` if it is added.
        new: Afterwards; `ABSENT` if it is removed.
        why: The reason.
    """

    place: Place
    old: Any
    new: Any
    why: str

    @property
    def path(self) -> str:
        """The place as people write it: ``model.neck.in_channels``."""
        return ".".join(map(str, self.place))

    def apply(self, tree: dict[str, Any]) -> None:
        """Change a config tree of Python's own dicts, lists and tuples in place.

        Raises:
            SwapError: The tree has another value there than the edit is for.
        """
        if lookup(tree, self.place, ABSENT) != self.old:
            raise SwapError(
                f"The plan is for another config: {self.path} is not what it was to change."
            )
        if self.new is ABSENT:
            del lookup(tree, self.place[:-1])[self.place[-1]]
        else:
            _assign(tree, self.place, plain(self.new))

    def as_dict(self) -> dict[str, Any]:
        """``path`` and ``why``, and of ``old`` and ``new`` what is there."""
        values = {"old": self.old, "new": self.new}
        present = {key: plain(value) for key, value in values.items() if value is not ABSENT}
        return {"path": self.path, "why": self.why, **present}


def _assign(tree: dict[str, Any], place: Place, value: Any) -> None:
    *above, key = place
    parent = lookup(tree, tuple(above))
    if isinstance(parent, tuple):
        _assign(tree, tuple(above), (*parent[:key], value, *parent[key + 1 :]))
    else:
        parent[key] = value


class Draft:
    """A config that is planned: a copy of it, changed edit by edit.

    Args:
        tree: The config, in Python's own dicts, lists and tuples.
        owner: Place of the dict that owns the backbone, beside its neck and heads.

    Attributes:
        before: The config as it was.
        tree: As it is now.
        scope: Its default scope, or else the current one.
        edits: What led from one to the other.
        notes: What was left as it is although one might expect a change, and why.
    """

    def __init__(self, tree: dict[str, Any], owner: Place):
        self.before = tree
        self.tree = plain(tree)
        self.owner = owner
        current = DefaultScope.get_current_instance()
        inherited = current.scope_name if current is not None else "mmengine"
        self.scope: str = tree.get("default_scope") or inherited
        self.edits: list[Edit] = []
        self.notes: list[str] = []

    def own(self, *keys: str | int) -> Place:
        """A place beside the backbone."""
        return (*self.owner, *keys)

    def get(self, place: Place, default: Any = None) -> Any:
        """The value at a place; `default` if there is none."""
        return lookup(self.tree, place, default)

    def set(self, place: Place, value: Any, why: str) -> None:
        """Set the value at a place; no edit if it is the same already."""
        old = self.get(place, ABSENT)
        if old is ABSENT or old != value or type(old) is not type(value):
            self._add(Edit(place, plain(old), plain(value), why))

    def remove(self, place: Place, why: str) -> None:
        """Remove a key of a dict, if it is there."""
        old = self.get(place, ABSENT)
        if old is not ABSENT:
            self._add(Edit(place, plain(old), ABSENT, why))

    def _add(self, edit: Edit) -> None:
        edit.apply(self.tree)
        self.edits.append(edit)


def format_changes(changes: Iterable[Mapping[str, Any]]) -> str:
    """The changes as a diff that people read: path and reason, then lines with - and +."""
    lines = []
    for change in changes:
        lines.append(f"@@ {change['path']}  # {change['why']}")
        old = _lines(change, "old")
        if "new" not in change and len(old) > 4:  # what is gone needs no details
            old = [*old[:3], "    ...", old[-1]]
        lines += [f"- {line}" for line in old]
        lines += [f"+ {line}" for line in _lines(change, "new")]
    return "\n".join(lines)


def _lines(change: Mapping[str, Any], side: str) -> list[str]:
    return _render(change["path"].rpartition(".")[2], change[side]) if side in change else []


def _render(name: str, value: Any, indent: str = "") -> list[str]:
    """``name = value``, a dict or list over several lines if it is long."""
    line = f"{indent}{name} = {_inline(value)}"
    if len(line) <= 96 or not value or not isinstance(value, (dict, list, tuple)):
        return [line]
    if isinstance(value, dict):
        items = [(str(key), item) for key, item in value.items()]
        opening, closing = "dict(", ")"
    else:
        items = [(f"[{i}]", item) for i, item in enumerate(value)]
        opening, closing = "[", "]"
    lines = [f"{indent}{name} = {opening}"]
    for key, item in items:
        lines += _render(key, item, indent + "    ")
    return [*lines, f"{indent}{closing}"]


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        if all(isinstance(key, str) and key.isidentifier() for key in value):
            return f"dict({', '.join(f'{key}={_inline(item)}' for key, item in value.items())})"
        return "{" + ", ".join(f"{key!r}: {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return repr(value)
