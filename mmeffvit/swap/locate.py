"""Where a config keeps the backbone that is to be swapped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmeffvit.configs import Place, type_name, walk
from mmeffvit.swap import upstream
from mmeffvit.swap.errors import SwapError


def find_owner(cfg: Mapping[str, Any], where: str | None = None) -> Place:
    """Place of the dict in ``cfg.model`` that owns the backbone, beside its neck and heads.

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
    found = [
        ("model", *place)
        for place, node in walk(model, skip=(*upstream.SETTINGS, "backbone"))
        if isinstance(node, Mapping) and _is_network(node.get("backbone"))
    ]
    if where is not None:
        keys = ("model." + where.removeprefix("model.")).split(".")
        wanted = tuple(int(key) if key.isdigit() else key for key in keys)
        wanted = wanted[:-1] if wanted[-1] == "backbone" else wanted
        if wanted not in found:
            raise SwapError(f"There is no backbone at {where!r}; {_places(found)}.")
        return wanted
    own = [place for place in found if not any(_belongs_to_other(key) for key in place)] or found
    if len(own) == 1:
        return own[0]
    if own:
        raise SwapError(f"The config has several backbones: {_places(own)}; name one by where=.")
    raise SwapError(
        f"The model {model.get('type')!r} has no backbone=dict(type=...) that could be swapped."
    )


def _is_network(value: Any) -> bool:
    return type_name(value) != ""


def _belongs_to_other(key: str | int) -> bool:
    return isinstance(key, str) and key.startswith(upstream.OTHER_NETWORKS)


def _places(places: list[Place]) -> str:
    if not places:
        return "it has none"
    names = [".".join(map(str, (*place[1:], "backbone"))) for place in places]
    return f"it is found at {', '.join(names)}"
