"""The optimizer that vision transformers are fine-tuned with, in place of a ResNet's SGD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmeffvit.configs import in_text, plain, type_name
from mmeffvit.swap.changes import Draft
from mmeffvit.swap.leftovers import NO_DECAY
from mmeffvit.swap.locate import find_owner

#: total batch size that the learning rate of detection is for
_DETECTION_BATCH = 16
_DETECTION = {"type": "AdamW", "lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 0.05}
_SEGMENTATION = {"type": "AdamW", "lr": 6e-5, "betas": (0.9, 0.999), "weight_decay": 0.01}
_WARM_UP = 1500


def set_recipe(cfg: Config, recipe: str) -> Config:
    """A config with its own backbone and the recipe that a swap would give it.

    Args:
        cfg: Of mmdet or mmseg. Not changed.
        recipe: As of :func:`mmeffvit.swap.swap_backbone`.
    """
    cfg = in_text(cfg)
    if recipe != "adamw":
        return cfg
    tree = plain(cfg)
    draft = Draft(tree, find_owner(tree))
    set_adamw(draft)
    # with a text, as there need not be a file of this name (any more)
    return Config(draft.tree, cfg_text=cfg.text or "# with AdamW", filename=cfg.filename)


def set_adamw(draft: Draft) -> None:
    """AdamW as in RAVLT's recipes (arXiv 2411.07635): detection 1e-4, segmentation 6e-5.

    The learning rate of detection is that of 16 images per step, scaled by
    ``auto_scale_lr.base_batch_size``. Bounds of schedules that are learning rates scale with it. A
    config that trains with Adam or AdamW already keeps its learning rate, which belongs to its
    heads.
    """
    wrapper = plain(draft.tree.get("optim_wrapper") or {})
    old = wrapper.get("optimizer") or {}
    root = ("optim_wrapper",)
    if not type_name(old).startswith("Adam"):
        new = dict(_SEGMENTATION if draft.scope == "mmseg" else _DETECTION)
        base = (draft.tree.get("auto_scale_lr") or {}).get("base_batch_size")
        if draft.scope != "mmseg" and base:
            new["lr"] *= base / _DETECTION_BATCH
        if not wrapper:
            wrapper = {"type": "OptimWrapper"}
            draft.set(root, wrapper, "recipe='adamw'")
        draft.set((*root, "optimizer"), new, "recipe='adamw'")
        if isinstance(draft.tree.get("optimizer"), Mapping):
            draft.set(("optimizer",), new, "recipe='adamw'")
        _scale_schedule(draft, new["lr"] / old.get("lr", new["lr"]))
    if draft.get((*root, "optimizer", "weight_decay")) is None:
        return  # mmengine refuses rules for a decay that is not set
    paramwise = plain(draft.get((*root, "paramwise_cfg")) or {})
    if "norm_decay_mult" not in paramwise:
        paramwise["custom_keys"] = {**paramwise.get("custom_keys", {}), **NO_DECAY}
        for key in ("norm_decay_mult", "bias_decay_mult", "bias_lr_mult"):
            paramwise.pop(key, None)
        draft.set((*root, "paramwise_cfg"), paramwise, "no decay of norms, as in the papers")


def _scale_schedule(draft: Draft, factor: float) -> None:
    schedulers = draft.tree.get("param_scheduler")
    if not schedulers:
        return
    new: list[dict[str, Any]] = plain(
        [schedulers] if isinstance(schedulers, Mapping) else schedulers
    )
    for scheduler in new:
        for key in ("eta_min", "eta_max"):
            if scheduler.get(key):
                scheduler[key] *= factor
    first = new[0]
    if draft.scope == "mmseg" and type_name(first) == "PolyLR" and not first.get("begin"):
        # a warm-up, which SGD does without; poly power 1 down to 0
        first.update(begin=_WARM_UP, power=1.0, eta_min=0.0)
        warm_up = {"type": "LinearLR", "start_factor": 1e-6, "by_epoch": False}
        new.insert(0, {**warm_up, "begin": 0, "end": _WARM_UP})
    draft.set(("param_scheduler",), new, "bounds scale with the learning rate; warm-up")
