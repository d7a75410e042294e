"""Train few parameters of a config's backbone: LoRA, AdaptFormer's adapters, or none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmeffvit.configs import Place, convert, full_type, plain, type_name, with_names
from mmeffvit.engine.merging import TUNED
from mmeffvit.models.meta import TablesOnCpu
from mmeffvit.swap import upstream
from mmeffvit.swap.api import read_config
from mmeffvit.swap.changes import Draft
from mmeffvit.swap.errors import SwapError
from mmeffvit.swap.locate import find_owner

_REASONS = {
    "lora": "low-rank adapters beside its projections are trained, and the rest is frozen",
    "adaptformer": "bottlenecks beside its feed-forward networks are trained, the rest is frozen",
    "frozen": "its weights are frozen",
}
_MERGE = {"type": "mmeffvit.MergeAdaptersHook"}


def set_tuning(
    cfg: Config | str | os.PathLike,
    *,
    lora: int | None = None,
    adaptformer: int | None = None,
    frozen: bool = False,
    where: str | None = None,
    **options: Any,
) -> Config:
    """Rewrite a config of a toolbox so that few parameters of its backbone are trained.

    Necks and heads are trained as before. See `mmeffvit.models.tuned_backbone`, which the config
    names from then on, and which also says what is adapted.

    Args:
        cfg: A config, its file, or an upstream name such as
            ``'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'``; also what `swap_backbone` returns.
            Not changed.
        lora: Rank of low-rank adapters (arXiv 2106.09685). When training ends they are merged into
            the weights, for the config without them.
        adaptformer: Channels of AdaptFormer's bottlenecks (arXiv 2205.13535).
        frozen: Train no parameter of the backbone but what pretrained weights lack.
        where: Which backbone, if the config has several, such as ``'reid.backbone'``.
        **options: Of `mmeffvit.models.tuned_backbone`: ``targets``, ``alpha``, ``dropout`` of
            `lora`, ``scale`` of `adaptformer`.

    Returns:
        A config that stands alone. ``cfg.tuning`` says what was done: ``method``, ``changes``, each
        with ``path``, ``old``, ``new`` and ``why``, and ``notes``.

    Raises:
        SwapError: The config cannot be tuned so; the message says why.
    """
    given = {"lora": lora, "adaptformer": adaptformer, "frozen": frozen or None}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        raise SwapError(f"Name one of lora=, adaptformer= and frozen=True; got {chosen or 'none'}.")
    cfg = read_config(cfg)
    draft = Draft(plain(with_names(cfg)), find_owner(cfg, where))
    (method,) = chosen
    arguments = {} if frozen else {method: given[method]}
    _wrap(draft, {**arguments, **options}, _REASONS[method])
    if method == "lora":
        hooks = list(draft.get(("custom_hooks",)) or [])
        if type_name(_MERGE) not in map(type_name, hooks):
            why = "merged weights are written when training ends"
            draft.set(("custom_hooks",), [*hooks, _MERGE], why)
    tree = draft.tree
    tree["tuning"] = {
        "method": method,
        "notes": list(draft.notes),
        "changes": [edit.as_dict() for edit in draft.edits],
    }
    source = Path(cfg.filename).stem if cfg.filename else "config"
    name = f"{source}_{method}{'' if frozen else given[method]}.py"
    return Config(tree, cfg_text=f"# {name}: made by mmeffvit.set_tuning", filename=name)


def _wrap(draft: Draft, arguments: dict[str, Any], why: str) -> None:
    place = draft.own("backbone")
    backbone = plain(draft.get(place))
    if type_name(backbone) == TUNED:
        raise SwapError("The backbone of this config is tuned already; change its entry.")
    # mmseg would hand it to the backbone under a name that is not the network's own
    outside = draft.get(draft.own("pretrained"))
    if outside is not None:
        backbone.setdefault("pretrained", outside)
        draft.set(draft.own("pretrained"), None, "the weights are the backbone's")
    tuned = {"type": f"mmeffvit.{TUNED}", "backbone": backbone, **arguments}
    _try(tuned, draft.scope)
    draft.set(place, tuned, why)
    weights = any(backbone.get(key) for key in upstream.WEIGHTS) or draft.get(("load_from",))
    if not weights:
        draft.notes.append(
            "The config names no weights of the backbone, and adapters of random weights learn "
            "little: give --backbone-checkpoint, pretrained=True of another library's backbone, "
            "init_cfg or load_from."
        )
    _note_copies(draft, place)


def _try(tuned: dict[str, Any], scope: str) -> None:
    """Build it without memory for weights: what cannot be adapted is known before training."""

    def without_weights(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if key not in upstream.WEIGHTS}

    try:
        with DefaultScope.overwrite_default_scope(scope), torch.device("meta"), TablesOnCpu():
            MODELS.build(convert(tuned, without_weights))
    except (ValueError, TypeError, ImportError) as error:
        raise SwapError(f"{full_type(tuned['backbone'])} cannot be tuned so: {error}") from error


def _note_copies(draft: Draft, place: Place) -> None:
    """Say that rules for parameters are matched with names, which an adapter lengthens."""
    rules = draft.get(("optim_wrapper", "paramwise_cfg", "custom_keys")) or {}
    inside = [key for key in rules if key.startswith("backbone")]
    if inside:
        draft.notes.append(
            f"optim_wrapper.paramwise_cfg.custom_keys has rules for {', '.join(inside)}, which "
            f"hold for the adapters in {'.'.join(map(str, place))} as well."
        )
