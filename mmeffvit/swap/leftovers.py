"""What a config says about its old backbone outside of it, and what becomes of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mmeffvit.configs import full_type, plain, type_name, walk
from mmeffvit.engine.launch import load_config
from mmeffvit.models.libraries import Statistics
from mmeffvit.swap import upstream
from mmeffvit.swap.changes import Draft

#: no weight decay for norms, as in the papers' recipes
NO_DECAY = {"norm": {"decay_mult": 0.0}}


def remove_weights(draft: Draft) -> None:
    """Pretrained weights of the old backbone, or of a whole model around it."""
    for depth in range(1, len(draft.owner) + 1):
        for key in reversed(upstream.WEIGHTS):
            place = (*draft.owner[:depth], key)
            value = draft.get(place)
            if isinstance(value, str) or type_name(value) == "Pretrained":
                draft.remove(place, "weights of the old backbone")
    if draft.get(("load_from",)):
        draft.set(("load_from",), None, "a checkpoint of a model with the old backbone")


def set_normalisation(draft: Draft, in_channels: int, statistics: Statistics) -> None:
    """Images as the weights expect them: those of Caffe models are BGR and not scaled.

    A preprocessor of other images, grey or of more bands, stays as it is: only those who took the
    images know their statistics.

    Args:
        draft: Of the config.
        in_channels: Of the new backbone.
        statistics: What its weights expect.
    """
    if any(key in draft.get(draft.owner) for key in upstream.TEACHERS):
        return  # the teacher's weights expect what is there
    why, new_mean, new_std = statistics.origin, list(statistics.mean), list(statistics.std)
    for depth in range(len(draft.owner) + 1):
        place = (*draft.owner[:depth], "data_preprocessor")
        while isinstance(preprocessor := draft.get(place), Mapping):
            mean, std = (_as_list(preprocessor.get(key)) for key in ("mean", "std"))
            if mean and not len(mean) == in_channels == len(new_mean):
                draft.notes.append(
                    f"{'.'.join(map(str, place))} stays as it is: it normalises "
                    f"{len(mean)} channel{'s' * (len(mean) > 1)} for a backbone that takes "
                    f"{in_channels}, and the weights' statistics are those of RGB images."
                )
            elif mean and (mean, std) != (new_mean, new_std):
                draft.set((*place, "mean"), new_mean, why)
                draft.set((*place, "std"), new_std, why)
                colour = "to_rgb" if "to_rgb" in preprocessor else "bgr_to_rgb"
                draft.set((*place, colour), statistics.rgb, why)
                if preprocessor.get("rgb_to_bgr"):
                    draft.set((*place, "rgb_to_bgr"), False, why)
            place = (*place, "data_preprocessor")


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) else [] if value is None else [value]


def embed_teacher(draft: Draft) -> None:
    """A teacher named by the path of its config is written out: the path only fits upstream."""
    place = draft.own("teacher_config")
    name = draft.get(place)
    if not isinstance(name, (str, Path)):
        return
    name = str(name)
    if not Path(name).is_file():
        package = draft.get(("default_scope",)) or "mmdet"
        name = f"{package}::{name.removeprefix('configs/')}"
    value = {"model": plain(load_config(name).model)}
    draft.set(place, value, "written out, as the path fits upstream only")


def clean_optimizer(
    draft: Draft, old: Sequence[str], new: nn.Module, keeps_layer_decay: bool = False
) -> None:
    """Rules for parameters that the model no longer has.

    Args:
        draft: Of the config.
        old: Names of the parameters of the old backbone.
        new: The new backbone.
        keeps_layer_decay: Number the layers of the new one where those of the old one were.
    """
    wrapper = draft.get(("optim_wrapper",))
    if not isinstance(wrapper, Mapping):
        return
    scope, _, constructor = str(wrapper.get("constructor", "")).rpartition(".")
    if constructor in upstream.LAYER_DECAY and scope != "mmeffvit":
        paramwise = dict(wrapper.get("paramwise_cfg") or {})
        rules = {key: paramwise.pop(key, None) for key in upstream.LAYER_DECAY_KEYS}
        rate = rules["decay_rate"] or rules["layer_decay_rate"]
        place = ("optim_wrapper", "constructor")
        if keeps_layer_decay and rate:
            own = "mmeffvit.LayerDecayOptimWrapperConstructor"
            draft.set(place, own, "it asks the backbone how deep its layers are")
            paramwise |= {"layer_decay_rate": rate, "no_decay": True}
            why = "the decay from layer to layer stays; no weight decay of norms and biases"
        else:
            draft.remove(place, "it numbers the layers of other networks")
            paramwise["custom_keys"] = {**paramwise.get("custom_keys", {}), **NO_DECAY}
            why = "no decay of norms, as in the papers"
        draft.set(("optim_wrapper", "paramwise_cfg"), paramwise, why)
    _clean_custom_keys(draft, old, new)


def _clean_custom_keys(draft: Draft, old: Sequence[str], new: nn.Module) -> None:
    place = ("optim_wrapper", "paramwise_cfg", "custom_keys")
    prefix = ".".join(map(str, draft.own("backbone")[1:]))
    new_names = [name for name, _ in new.named_parameters()]

    def is_stale(key: str) -> bool:
        above, _, part = key.partition("backbone.")
        if part and prefix.startswith(above):
            return True  # of the old backbone, by its name
        was = key in upstream.POSITION_TABLES or _in(key, prefix, old)
        return was and not _in(key, prefix, new_names) and key not in prefix

    rules = draft.get(place) or {}
    kept = {key: rule for key, rule in rules.items() if not is_stale(key)}
    dropped = {key: rule for key, rule in rules.items() if key not in kept}
    if not dropped:
        return
    # what was said about the norms of the old backbone, for those of the new one
    exempt = [rule for key, rule in dropped.items() if "norm" in key and "backbone." in key]
    if exempt and "norm" not in kept:
        for name, module in new.named_modules():
            if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)):
                kept[f"{prefix}.{name}."] = exempt[0]
    draft.set(place, kept, "names of parameters of the old backbone")


def _in(key: str, prefix: str, names: Sequence[str]) -> bool:
    return any(key in f"{prefix}.{name}" for name in names)


def remove_imports(draft: Draft, old_backbone: Mapping[str, Any]) -> None:
    """``custom_imports`` of the toolbox that the old backbone came from, if nothing else does."""
    package, dot, _ = full_type(old_backbone).rpartition(".")
    imports = draft.get(("custom_imports", "imports"))
    if not dot or not imports:
        return
    names = [imports] if isinstance(imports, str) else list(imports)
    kept = [name for name in names if name.partition(".")[0] != package]
    values = (value for _, value in walk(draft.get(("model",))))
    mentioned = any(isinstance(v, str) and v.startswith(f"{package}.") for v in values)
    if len(kept) == len(names) or mentioned:
        return
    why = f"only the old backbone was of {package}"
    if kept:
        draft.set(("custom_imports", "imports"), kept, why)
    else:
        draft.remove(("custom_imports",), why)


def remove_copies(draft: Draft) -> None:
    """Variables of the config file that held what was replaced, which nothing reads."""
    kept = [value for edit in draft.edits for value in _inner(edit.new)]
    gone = [edit.old for edit in draft.edits if _is_telling(edit.old)]
    gone += [value for old in gone for value in _inner(old) if value not in kept]
    model = draft.before["model"]
    gone += [model[key] for key in upstream.INNER_MODELS if key in model]
    for key, value in draft.before.items():
        if key not in upstream.ENTRIES and _is_telling(value) and value in gone:
            draft.remove((key,), "a variable of the file; nothing reads it")


def _inner(value: Any) -> list[Any]:
    return [inner for place, inner in walk(value) if place and _is_telling(inner)]


def _is_telling(value: Any) -> bool:
    """Whether two equal values cannot be equal by chance."""
    return "/" in value if isinstance(value, str) else isinstance(value, dict) and len(value) > 1
