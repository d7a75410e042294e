"""Walks over configs: trees of dicts, lists and tuples, as mmengine reads them."""

from __future__ import annotations

import ast
import copy
import math
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.registry import Registry

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


# -- types ---------------------------------------------------------------------------------------

#: keys under which a config names what is built, or gives the class itself
_NAMING = ("type", "constructor", "runner_type")
_SCOPES = ("mmdet", "mmeffvit", "mmpretrain", "mmseg")


def full_type(cfg: Any) -> str:
    """What a config's ``type`` says, with its scope; of a class its name; '' if there is none."""
    kind = cfg.get("type") if isinstance(cfg, Mapping) else None
    if kind is None or isinstance(kind, str):
        return kind or ""
    return class_name(kind)


def type_name(cfg: Any) -> str:
    """Name of the class that a config's ``type`` names, without its scope; '' if none is named."""
    return full_type(cfg).rpartition(".")[2]


def class_name(kind: Any) -> str:
    """A class or a function as a config in text names it.

    Returns:
        ``'mmdet.FPN'`` for what a toolbox registers as its own, else all of its path, such as
        ``'torch.optim.adamw.AdamW'``; mmengine builds both.
    """
    module, name = getattr(kind, "__module__", ""), getattr(kind, "__qualname__", repr(kind))
    scope = module.partition(".")[0]
    for root in vars(mmengine.registry).values():
        if not isinstance(root, Registry):
            continue
        own = root if root.scope == scope else root.children.get(scope)
        known = own.module_dict if own is not None else {}
        names = [key for key, registered in known.items() if registered is kind]
        if names:
            return f"{scope}.{name if name in names else names[0]}"
    return f"{module}.{name}"


def with_names(tree: Any) -> Any:
    """A copy of a config, in Python's own types, that names classes as a config in text does.

    Configs in pure Python give classes. Names can be compared, written to a file, and read again.
    What the file has imported is left out; a class that is an argument stays one, and is written by
    its path.
    """

    def name(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: _name(v) if k in _NAMING else _lazy(v) for k, v in value.items()}
        return type(value)(map(_lazy, value)) if isinstance(value, (list, tuple)) else value

    # what mmengine has not imported yet is written by its path as it is
    entries = tree._to_lazy_dict() if isinstance(tree, Config) else tree
    return convert({key: v for key, v in entries.items() if not _is_code(v)}, name)


def in_text(cfg: Config) -> Config:
    """The config itself where it names all types, else one that does; see `with_names`.

    Where it sets no ``default_scope``, which it needs none of, it gets that of its model.
    """
    if not any(_is_code(value) for _, value in walk(cfg)):
        return cfg
    tree = with_names(cfg)
    scope = full_type(tree.get("model")).partition(".")[0]
    if tree.get("default_scope") is None and scope in _SCOPES:
        tree["default_scope"] = scope
    return Config(tree, cfg.text or "# in pure Python", cfg.filename, cfg.env_variables)


def _is_code(value: Any) -> bool:
    kinds = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
    return isinstance(value, kinds)


def _name(value: Any) -> Any:
    kind = value.build() if isinstance(value, (LazyObject, LazyAttr)) else value
    return class_name(kind) if _is_code(kind) else value


def _lazy(value: Any) -> Any:
    """What mmengine keeps of an import: it can be written, and gives the object when asked for."""
    if not _is_code(value):
        return value
    if isinstance(value, types.ModuleType):
        return LazyObject(value.__name__)
    return LazyObject(value.__module__, value.__qualname__)


# -- texts ---------------------------------------------------------------------------------------

#: what texts that mmengine writes call; none of these may be given another meaning
_CALLED = ("dict", "array", "list", "set", "tuple")


def values_of_text(text: str) -> dict[str, Any] | None:
    """The entries of a config as ``Config.pretty_text`` writes it.

    Names other than True, False, None, inf and nan stay text, such as ``'torch.float16'``.

    Args:
        text: Assignments of values; one that Python cannot parse has no entries, as none can run.

    Returns:
        The entries; None if the text is more than that, a program.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return {}
    values: dict[str, Any] = {}
    try:
        for statement in body:
            (target,) = statement.targets
            if target.id in _CALLED:
                return None
            values[target.id] = _value(statement.value)
    except (AttributeError, TypeError, ValueError, RecursionError):
        return None
    return values


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.List() | ast.Tuple() | ast.Set():
            kind = {ast.List: list, ast.Tuple: tuple, ast.Set: list}[type(node)]
            return kind(map(_value, node.elts))
        case ast.Dict():
            return {_value(key): _value(item) for key, item in zip(node.keys, node.values)}
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            number = _value(node.operand)
            return -number if isinstance(node.op, ast.USub) else +number
        case ast.Call(func=ast.Name(id=name)) if name in _CALLED:
            items = [_value(item) for item in node.args]
            entries = {word.arg: _value(word.value) for word in node.keywords}
            return {**dict(*items), **entries} if name == "dict" else items
        case ast.Name(id="inf" | "nan"):
            return math.inf if node.id == "inf" else math.nan
        case ast.Name() | ast.Attribute():
            return ast.unparse(node)
    raise ValueError(f"not a value: {ast.unparse(node)}")
