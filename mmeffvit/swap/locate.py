"""Where a config keeps the backbone that is to be swapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from mmeffvit.swap.changes import Path
from mmeffvit.swap.errors import SwapError

#: parts of a model that hold a network of their own, which a student or a tracker only uses
_OTHERS = ("teacher", "reid", "rfp_")
_NOT_MODELS = ("train_cfg", "test_cfg", "data_preprocessor", "backbone")


def find_owner(cfg: Config, where: str | None = None) -> Path:
    """Path of the dict in ``cfg.model`` that owns the backbone, beside its neck and heads.

    Args:
        cfg: A config of a toolbox.
        where: Which one, if there are several, such as ``'reid.backbone'``. None takes the only one
            that belongs to no teacher and to no re-identification network.

    Raises:
        SwapError: There is none, or there are several.
    """
    model = cfg.get("model")
    if not isinstance(model, Mapping):
        raise SwapError(
            "The config has no model=dict(...), so there is no backbone to swap; give the config "
            "that is trained, not one of its bases."
        )
    found = list(_owners(model, ("model",)))
    if where is not None:
        wanted = tuple(("model." + where.removeprefix("model.")).split("."))
        wanted = tuple(int(key) if key.isdigit() else key for key in wanted)
        wanted = wanted[:-1] if wanted[-1] == "backbone" else wanted
        if wanted not in found:
            raise SwapError(f"There is no backbone at {where!r}; {_places(found)}.")
        return wanted
    own = [path for path in found if not any(_belongs_to_other(key) for key in path)] or found
    if len(own) == 1:
        return own[0]
    if own:
        raise SwapError(f"The config has several backbones: {_places(own)}; name one by where=.")
    raise SwapError(
        f"The model {model.get('type')!r} has no backbone=dict(type=...) that could be swapped."
    )


def _owners(node: Any, path: Path) -> Iterator[Path]:
    if isinstance(node, Mapping):
        backbone = node.get("backbone")
        if isinstance(backbone, Mapping) and isinstance(backbone.get("type"), (str, type)):
            yield path
        for key, value in node.items():
            if key not in _NOT_MODELS:
                yield from _owners(value, (*path, key))
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from _owners(value, (*path, i))


def _belongs_to_other(key: str | int) -> bool:
    return isinstance(key, str) and key.startswith(_OTHERS)


def has_teacher(owner: Mapping) -> bool:
    """Whether a frozen teacher sees the same images as the backbone."""
    return any(key in owner for key in ("teacher_config", "teacher_backbone", "teacher"))


def _places(paths: list[Path]) -> str:
    if not paths:
        return "it has none"
    names = [".".join(map(str, (*path[1:], "backbone"))) for path in paths]
    return f"it is found at {', '.join(names)}"
