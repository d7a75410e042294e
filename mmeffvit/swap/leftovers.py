"""What a config says about its old backbone outside of it, and what becomes of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path as File
from typing import Any

from torch import nn

from mmeffvit.swap.changes import Editor, Path, plain
from mmeffvit.swap.locate import has_teacher

#: constructors whose layer numbers are those of other networks (ConvNeXt, BEiT, MAE, Swin ...)
_LAYER_DECAY = (
    "LearningRateDecayOptimizerConstructor",
    "LearningRateDecayOptimWrapperConstructor",
    "LayerDecayOptimizerConstructor",
    "LayerDecayOptimWrapperConstructor",
)
_LAYER_DECAY_KEYS = ("decay_rate", "decay_type", "num_layers", "layer_decay_rate")
#: position tables of other transformers, which many configs exempt from decay
_TABLES = ("absolute_pos_embed", "relative_position_bias_table", "pos_block")
#: statistics of ImageNet's RGB images, as all published weights of ours expect
_MEAN = [123.675, 116.28, 103.53]
_STD = [58.395, 57.12, 57.375]
#: no weight decay for norms, as in the papers' recipes
NO_DECAY = {"norm": {"decay_mult": 0.0}}


def remove_weights(editor: Editor, owner: Path) -> None:
    """Pretrained weights of the old backbone, or of a whole model around it."""
    for depth in range(1, len(owner) + 1):
        for key in ("pretrained", "init_cfg"):
            value = editor.get((*owner[:depth], key))
            if isinstance(value, str) or _is_pretrained(value):
                editor.remove((*owner[:depth], key), "weights of the old backbone")
    if editor.cfg.get("load_from"):
        editor.set(("load_from",), None, "a checkpoint of a model with the old backbone")


def _is_pretrained(init_cfg: Any) -> bool:
    return isinstance(init_cfg, Mapping) and init_cfg.get("type") == "Pretrained"


def set_normalisation(editor: Editor, owner: Path) -> None:
    """Images as our weights expect them: those of Caffe models are BGR and not scaled."""
    if has_teacher(editor.get(owner)):
        return  # the teacher's weights expect what is there
    roots = [("data_preprocessor",), *(owner[:depth] for depth in range(1, len(owner) + 1))]
    for root in roots:
        path = root if root == ("data_preprocessor",) else (*root, "data_preprocessor")
        while isinstance(editor.get(path), Mapping):
            _normalise(editor, path)
            path = (*path, "data_preprocessor")


def _normalise(editor: Editor, path: Path) -> None:
    preprocessor = editor.get(path)
    if not preprocessor.get("mean"):
        return
    colour = "to_rgb" if "to_rgb" in preprocessor else "bgr_to_rgb"
    why = "our weights were trained on RGB images scaled so"
    if list(preprocessor["mean"]) != _MEAN or list(preprocessor.get("std") or ()) != _STD:
        editor.set((*path, "mean"), _MEAN, why)
        editor.set((*path, "std"), _STD, why)
        editor.set((*path, colour), True, why)
        if preprocessor.get("rgb_to_bgr"):
            editor.set((*path, "rgb_to_bgr"), False, why)


def embed_teacher(editor: Editor, owner: Path) -> None:
    """A teacher named by the path of its config is written out: the path only fits upstream."""
    name = editor.get((*owner, "teacher_config"))
    if not isinstance(name, (str, File)):
        return
    from mmeffvit.engine.launch import load_config

    file = File(name)
    if not file.is_file():
        package = editor.cfg.get("default_scope") or "mmdet"
        teacher = load_config(f"{package}::{str(name).removeprefix('configs/')}")
    else:
        teacher = load_config(str(name))
    value = {"model": plain(teacher.model)}
    editor.set((*owner, "teacher_config"), value, "written out, as the path fits upstream only")


def clean_optimizer(editor: Editor, owner: Path, old: Sequence[str], new: nn.Module) -> None:
    """Rules for parameters that the model no longer has.

    Args:
        editor: Of the config.
        owner: Path of the dict that owns the backbone.
        old: Names of the parameters of the old backbone.
        new: The new backbone.
    """
    wrapper = editor.cfg.get("optim_wrapper")
    if not isinstance(wrapper, Mapping):
        return
    root = ("optim_wrapper",)
    constructor = str(wrapper.get("constructor", "")).rpartition(".")[2]
    mine = str(wrapper.get("constructor", "")).startswith("mmeffvit.")
    if constructor in _LAYER_DECAY and not mine:
        editor.remove((*root, "constructor"), "it numbers the layers of other networks")
        paramwise = {
            key: value
            for key, value in plain(wrapper.get("paramwise_cfg") or {}).items()
            if key not in _LAYER_DECAY_KEYS
        }
        paramwise["custom_keys"] = {**paramwise.get("custom_keys", {}), **NO_DECAY}
        editor.set((*root, "paramwise_cfg"), paramwise, "no decay of norms, as in the papers")
    _clean_custom_keys(editor, owner, old, new)


def _clean_custom_keys(editor: Editor, owner: Path, old: Sequence[str], new: nn.Module) -> None:
    path = ("optim_wrapper", "paramwise_cfg", "custom_keys")
    keys = plain(editor.get(path) or {})
    prefix = ".".join(map(str, (*owner[1:], "backbone")))
    kept, dropped = {}, {}
    new_names = [name for name, _ in new.named_parameters()]
    for key, rule in keys.items():
        place, _, part = key.partition("backbone.")
        inside = bool(part) and prefix.startswith(place)
        if inside:
            stale = not any(part in name for name in new_names)
        else:
            was = key in _TABLES or _in(key, prefix, old)
            stale = was and not _in(key, prefix, new_names) and key not in prefix
        (dropped if inside or stale else kept)[key] = rule
    if not dropped:
        return
    # what was said about the norms of the old backbone, for those of the new one
    exempt = [rule for key, rule in dropped.items() if "norm" in key and "backbone." in key]
    if exempt and not any(key == "norm" for key in kept):
        for name, module in new.named_modules():
            if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)):
                kept[f"{prefix}.{name}."] = exempt[0]
    editor.set(path, kept, "names of parameters of the old backbone")


def _in(key: str, prefix: str, names: Sequence[str]) -> bool:
    return any(key in f"{prefix}.{name}" for name in names)


def remove_imports(editor: Editor, old_backbone: Mapping[str, Any]) -> None:
    """``custom_imports`` of the toolbox that the old backbone came from, if nothing else does."""
    package, dot, _ = str(old_backbone.get("type")).rpartition(".")
    imports = editor.get(("custom_imports", "imports"))
    if not dot or not imports:
        return
    names = [imports] if isinstance(imports, str) else list(imports)
    kept = [name for name in names if name.partition(".")[0] != package]
    if len(kept) == len(names) or _mentions(editor.cfg.get("model"), package + "."):
        return
    why = f"only the old backbone was of {package}"
    if kept:
        editor.set(("custom_imports", "imports"), kept, why)
    else:
        editor.remove(("custom_imports",), why)


def _mentions(value: Any, prefix: str) -> bool:
    if isinstance(value, Mapping):
        return any(_mentions(item, prefix) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_mentions(item, prefix) for item in value)
    return isinstance(value, str) and value.startswith(prefix)


def remove_copies(editor: Editor, before: Mapping[str, Any]) -> None:
    """Variables of the config file that held what was replaced, which nothing reads.

    Args:
        editor: Of the config.
        before: The config before the swap.
    """
    gone = [c["old"] for c in editor.changes if _is_telling(c.get("old"))]
    kept = [value for c in editor.changes for value in _inner(c.get("new"))]
    gone += [value for old in gone for value in _inner(old) if value not in kept]
    nested = [before["model"][key] for key in before["model"] if key in ("detector", "student")]
    for key in list(editor.cfg.keys()):
        value = before.get(key)
        if key in _SETTINGS or not _is_telling(value):
            continue
        if value in gone or value in nested:
            editor.remove((key,), "a variable of the file; nothing reads it")


_SETTINGS = (
    "model",
    "data_preprocessor",
    "optim_wrapper",
    "param_scheduler",
    "custom_imports",
    "custom_hooks",
    "load_from",
    "norm_cfg",
)


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [v for item in value.values() for v in (item, *_inner(item)) if _is_telling(v)]
    return []


def _is_telling(value: Any) -> bool:
    """Whether two equal values cannot be equal by chance."""
    if isinstance(value, str):
        return "/" in value
    return isinstance(value, dict) and len(value) > 1
