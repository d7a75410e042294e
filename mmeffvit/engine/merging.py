"""Weights into which low-rank adapters are merged, and the config that they fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmeffvit.checkpoint import read_checkpoint
from mmeffvit.configs import convert, type_name, walk
from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.evaluation import check_weights
from mmeffvit.engine.weights import unwrap
from mmeffvit.files import whole_file
from mmeffvit.models.tuning import merged_state_dict

#: name in configs of a backbone with adapters
TUNED = "TunedBackbone"


def merge_checkpoint(cfg: Config, checkpoint: str, file: Path) -> None:
    """Merge the adapters of a checkpoint; see `write_merged`.

    Args:
        cfg: Of the model with adapters.
        checkpoint: A file that its training has written.
        file: Of the merged weights.

    Raises:
        LaunchError: The config has no adapters that could be merged.
        CheckpointError: The checkpoint cannot be read, or belongs to another model.
    """
    if not any(type_name(value) == TUNED for _, value in walk(cfg.model)):
        raise LaunchError(
            "The config has no adapters: give the one that was trained, which its work directory "
            "holds, or what tools/train.py was given with --lora."
        )
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        model = MODELS.build(cfg.model)
    check_weights(model, checkpoint)
    meta = read_checkpoint(checkpoint).get("meta", {})
    try:
        write_merged(file, cfg, model, dict(meta))
    except ValueError as error:
        raise LaunchError(f"{checkpoint}: {error}.") from error


def write_merged(file: Path, cfg: Config, model: nn.Module, meta: dict[str, Any]) -> None:
    """Write the merged weights of a model to a file, and the config that they fit beside it.

    Args:
        file: Of the weights; the config is called the same, with ``.py``.
        cfg: Of the model with adapters.
        model: With adapters; it stays as it is.
        meta: Goes into the file, as mmengine's does.

    Raises:
        ValueError: The adapters cannot be merged, or there are none.
    """
    weights = merged_state_dict(unwrap(model))
    plain = without_tuning(cfg)
    with whole_file(file.with_suffix(".py")) as scratch:
        plain.dump(str(scratch))
    state = {"meta": {**meta, "cfg": plain.pretty_text}, "state_dict": weights}
    with whole_file(file) as scratch:
        torch.save(state, scratch)


def without_tuning(cfg: Config) -> Config:
    """The config without adapters: what merged weights fit."""

    def unwrapped(value: Any) -> Any:
        return value["backbone"] if type_name(value) == TUNED else value

    tree = convert({key: value for key, value in cfg.items() if key != "tuning"}, unwrapped)
    hooks = tree.get("custom_hooks") or []
    tree["custom_hooks"] = [h for h in hooks if type_name(h) != "MergeAdaptersHook"]
    # its file need not exist: --lora makes configs that are written nowhere
    return Config(tree, cfg_text="# without adapters", filename=cfg.filename)
