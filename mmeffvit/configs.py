"""Walks over configs: trees of dicts, lists and tuples, as mmengine reads them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from mmengine.config import Config

Place = tuple[str | int, ...]
"""Keys and indices from the top of a config to a value."""


def lookup(tree: Any, place: Place, default: Any = None) -> Any:
    """The value at a place; `default` if there is none."""
    for key in place:
        if isinstance(tree, (list, tuple)):
            found = isinstance(key, int) and key < len(tree)
        else:
            found = isinstance(tree, (Mapping, Config)) and key in tree
        if not found:
            return default
        tree = tree[key]
    return tree


def walk(tree: Any, skip: Collection[str] = ()) -> Iterator[tuple[Place, Any]]:
    """Every value of a tree with its place, the tree itself first, parents before children.

    Args:
        tree: A config, or a part of one.
        skip: Keys of dicts whose values are left out.
    """
    yield (), tree
    if isinstance(tree, (Mapping, Config)):
        items = [(key, value) for key, value in tree.items() if key not in skip]
    elif isinstance(tree, (list, tuple)):
        items = list(enumerate(tree))
    else:
        return
    for key, value in items:
        for place, inner in walk(value, skip):
            yield (key, *place), inner


def convert(tree: Any, change: Callable[[Any], Any]) -> Any:
    """A copy of a tree, in Python's own dicts, lists and tuples, every value of which is changed.

    Args:
        tree: A config, or a part of one.
        change: Takes a value and returns what takes its place; children come before parents.
    """
    if isinstance(tree, (Mapping, Config)):
        return change({key: convert(value, change) for key, value in tree.items()})
    if isinstance(tree, (list, tuple)):
        return change(type(tree)(convert(value, change) for value in tree))
    return change(tree)


def plain(tree: Any) -> Any:
    """A deep copy of a tree in Python's own dicts, lists and tuples."""
    own = (dict, list, tuple)
    return convert(tree, lambda value: value if type(value) in own else copy.deepcopy(value))


def type_name(cfg: Any) -> str:
    """Name of the class that a config's ``type`` names, without its scope; '' if none is named."""
    kind = cfg.get("type") if isinstance(cfg, Mapping) else None
    return kind.rpartition(".")[2] if isinstance(kind, str) else getattr(kind, "__name__", "")
