"""The number of classes, wherever a model says it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.registry import MODELS, DefaultScope

from mmeffvit.configs import Place, plain, walk
from mmeffvit.swap import upstream
from mmeffvit.swap.changes import Draft
from mmeffvit.swap.errors import SwapError


def set_counts(draft: Draft, count: int) -> list[str]:
    """Write the number of classes into heads, losses and tests, and fit what depends on it.

    Args:
        draft: Of the config.
        count: Of the classes, without background.

    Returns:
        Where it was written.

    Raises:
        SwapError: A head is for one class alone.
    """
    model = plain(draft.get(("model",)))
    old = _old_counts(model)
    written = []
    why = f"{count} classes"
    for place, value in walk(model, skip=upstream.NOT_COUNTED):
        if not place or not isinstance(place[-1], str):
            continue
        full, key = ("model", *place), place[-1]
        if key == "type" and count > 1 and str(value).rpartition(".")[2] in upstream.ONE_CLASS:
            name = str(value).rpartition(".")[2]
            raise SwapError(f"{name} cannot learn {count} classes: {upstream.ONE_CLASS[name]}.")
        if key in upstream.COUNTS and type(value) is int:
            if "rpn_head" in place and value == 1:
                continue  # objects against the rest
            draft.set(full, count, why)
            written.append(".".join(map(str, full)))
        elif key in upstream.STUFF_COUNTS and type(value) is int:
            draft.set(full, 0, "your data has objects alone")
        elif key == "class_weight" and isinstance(value, (list, tuple)):
            _set_weights(draft, full, value, old, count)
        elif key == "out_channels" and type(value) is int:
            _set_channels(draft, full, model, place, count)
    for place in _silent_heads(model, draft.scope):
        draft.set(("model", *place, "num_classes"), count, f"{why}; its default is another")
        written.append(".".join(map(str, ("model", *place, "num_classes"))))
    return written


def _old_counts(model: Mapping[str, Any]) -> set[int]:
    """Counts that the model names; of things and stuff their sum, too."""
    found: dict[str, set[int]] = {}
    for place, value in walk(model, skip=upstream.NOT_COUNTED):
        if place and type(value) is int:
            found.setdefault(str(place[-1]), set()).add(value)
    things = {n for key in upstream.COUNTS for n in found.get(key, ())}
    stuff = {n for key in upstream.STUFF_COUNTS for n in found.get(key, ())}
    return things | {a + b for a in things for b in stuff}


def _set_weights(draft: Draft, place: Place, weights: Any, old: set[int], count: int) -> None:
    """Weights that are equal stay so; others were measured on the old classes."""
    values, kind = list(weights), type(weights)
    if len(values) - 1 in old and len(set(values[:-1])) == 1:  # the last one is that of no object
        new = [values[0]] * count + values[-1:]
        draft.set(place, kind(new), f"as before, for {count} classes and none")
    elif len(values) in old and len(set(values)) == 1:
        draft.set(place, kind(values[:1] * count), f"as before, for {count} classes")
    else:
        draft.remove(place, "they weigh the old classes, by how often each was seen")


def _set_channels(
    draft: Draft, place: Place, model: Mapping[str, Any], inner: Place, count: int
) -> None:
    """Channels of a segmentor's scores: as many as classes, or one for two of them."""
    head: Any = model
    for key in inner[:-1]:
        head = head[key]
    classes, channels = head.get("num_classes"), head["out_channels"]
    if type(classes) is not int or channels not in (classes, 1):
        return
    if channels == 1 and classes == 2:
        if count != 2:
            draft.remove(place, f"one channel tells two classes apart, not {count}")
            draft.remove((*place[:-1], "threshold"), "of a single channel")
    elif channels == classes:
        draft.set(place, count, f"{count} classes")


def _silent_heads(model: Mapping[str, Any], scope: str) -> list[Place]:
    """Heads that say nothing of classes, and by default are for those of COCO."""
    found = []
    with DefaultScope.overwrite_default_scope(scope):
        for place, value in walk(model, skip=(*upstream.NOT_COUNTED, "rpn_head", "neck")):
            named = isinstance(value, Mapping) and isinstance(value.get("type"), str)
            keys = [key for key in place if isinstance(key, str)]
            if not named or not keys or not keys[-1].endswith("_head"):
                continue
            if "num_classes" not in value and _default_count(value["type"]) > 1:
                found.append(place)
    return found


def _default_count(kind: str) -> int:
    cls = MODELS.get(kind)
    for base in inspect.getmro(cls) if inspect.isclass(cls) else ():
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters
        if "num_classes" in parameters:
            default = parameters["num_classes"].default
            return default if type(default) is int else 0
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return 0
    return 0
