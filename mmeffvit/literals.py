"""Texts of configs that are data, read without running them."""

from __future__ import annotations

import ast
import math
from typing import Any

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
