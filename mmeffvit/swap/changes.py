"""A config that keeps a list of what was changed in it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

Path = tuple[str | int, ...]
"""Keys and indices from the top of a config to a value."""

_MISSING = object()


class Editor:
    """Changes a config in place and notes each change.

    Args:
        cfg: The config.

    Attributes:
        changes: One dict per change: ``path`` (dotted), ``why``, and ``old`` and ``new``, of which
            an added value lacks the first and a removed one the second.
    """

    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.changes: list[dict[str, Any]] = []

    def get(self, path: Path, default: Any = None) -> Any:
        """The value at a path; `default` if there is none."""
        value = self.cfg
        for key in path:
            if isinstance(value, (Mapping, Config)):
                value = value.get(key, _MISSING)
            elif isinstance(value, (list, tuple)) and isinstance(key, int) and key < len(value):
                value = value[key]
            else:
                value = _MISSING
            if value is _MISSING:
                return default
        return value

    def set(self, path: Path, value: Any, why: str) -> None:
        """Set the value at a path; nothing is noted if it is the same already."""
        old = self.get(path, _MISSING)
        if old is not _MISSING and plain(old) == plain(value) and type(old) is type(value):
            return
        self._note(path, old, value, why)
        self._assign(path, value)

    def remove(self, path: Path, why: str) -> None:
        """Remove a key of a dict, if it is there."""
        parent = self.get(path[:-1]) if path[:-1] else self.cfg
        if isinstance(parent, (Mapping, Config)) and path[-1] in parent:
            self._note(path, parent[path[-1]], _MISSING, why)
            parent.pop(path[-1])

    def _assign(self, path: Path, value: Any) -> None:
        parent = self.get(path[:-1]) if path[:-1] else self.cfg
        if isinstance(parent, tuple):
            items = list(parent)
            items[path[-1]] = value
            self._assign(path[:-1], tuple(items))
        else:
            parent[path[-1]] = value

    def _note(self, path: Path, old: Any, new: Any, why: str) -> None:
        change: dict[str, Any] = {"path": ".".join(map(str, path)), "why": why}
        if old is not _MISSING:
            change["old"] = plain(old)
        if new is not _MISSING:
            change["new"] = plain(new)
        self.changes.append(change)


def plain(value: Any) -> Any:
    """A deep copy of a config value in dicts, lists and tuples of Python's own."""
    if isinstance(value, (Mapping, Config)):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return copy.deepcopy(value)


def format_changes(changes: list[dict[str, Any]]) -> str:
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
