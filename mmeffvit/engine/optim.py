"""Optimizer-wrapper constructors: learning rate and weight decay, parameter by parameter."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from mmengine.logging import MMLogger, print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mmeffvit.errors import did_you_mean
from mmeffvit.registry import OPTIM_WRAPPER_CONSTRUCTORS

_OPTIONS = (
    "layer_decay_rate",
    "no_decay",
    # of DefaultOptimWrapperConstructor
    "custom_keys",
    "bias_lr_mult",
    "bias_decay_mult",
    "norm_decay_mult",
    "flat_decay_mult",
    "dwconv_decay_mult",
    "dcn_offset_lr_mult",
    "bypass_duplicate",
)
_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Learning rates that fall from the heads to the stem, and the usual exemptions from decay.

    Layer-wise learning-rate decay (ELECTRA, arXiv 2003.10555, section 3.1; BEiT, arXiv 2106.08254):
    a parameter in layer i of a backbone of n layers gets the learning rate of the optimizer times
    ``layer_decay_rate ** (n - 1 - i)``. Which layer that is says the backbone itself, by
    ``get_layer_depth(name) -> (i, n)``: all of ours have it, as have those of mmpretrain that its
    own constructor supports. A backbone is found wherever the model keeps it, several are treated
    each by its own depth, and what lies outside (necks, heads) keeps the full rate.

    ``paramwise_cfg`` takes what mmengine's default constructor takes, with the same meaning, and

    - ``layer_decay_rate`` (float): In (0, 1]; 1, the default, leaves learning rates alone. The rate
      applies per block: with 0.9 the stem of a tiny variant (15 blocks) learns at 0.19 of the
      rate of the heads, that of a base variant (46 blocks) at 0.007.
    - ``no_decay`` (bool): No weight decay for norms (the batch norms of stem and down-sampling
      too), biases, layer scales and all other vectors, embedding tables, and what modules name in
      a ``no_weight_decay()`` of timm's form. A key of ``custom_keys`` that sets ``decay_mult`` has
      the last word. Off by default, so that the rules of a paper can be written out.

    Parameters of equal options share a group. Groups hold ``param_names``, ``lr_scale`` and
    ``layer`` beside what the optimizer reads.

    Args:
        optim_wrapper_cfg: Config of the optimizer wrapper, with an ``optimizer`` that has an `lr`.
        paramwise_cfg: See above.

    Raises:
        ValueError: An option is not known or out of its range, or the optimizer lacks `lr` or the
            `weight_decay` that a rule is about.
        TypeError: No backbone of the model knows its depth.

    Example:
        >>> optim_wrapper = dict(
        ...     type='OptimWrapper',
        ...     optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
        ...     constructor='mmeffvit.LayerDecayOptimWrapperConstructor',
        ...     paramwise_cfg=dict(layer_decay_rate=0.9, no_decay=True))
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        for key in self.paramwise_cfg:
            if key not in _OPTIONS:
                raise ValueError(
                    f"paramwise_cfg has no option '{key}'; it has {', '.join(_OPTIONS)}"
                    f"{did_you_mean(key, _OPTIONS)} "
                    "(the number of layers is asked from the network)"
                )
        if not 0 < self.layer_decay_rate <= 1:
            raise ValueError(f"layer_decay_rate must be in (0, 1], got {self.layer_decay_rate}")
        if self.base_lr is None:
            raise ValueError("layer-wise decay needs optimizer=dict(lr=...), and there is no lr")
        if self.no_decay and self.base_wd is None:
            raise ValueError(
                "no_decay=True exempts parameters from optimizer=dict(weight_decay=...), and there "
                "is none"
            )

    @property
    def layer_decay_rate(self) -> float:
        return self.paramwise_cfg.get("layer_decay_rate", 1.0)

    @property
    def no_decay(self) -> bool:
        return self.paramwise_cfg.get("no_decay", False)

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = "", **kwargs) -> None:
        """Append the groups of all parameters of `module`; mmengine calls this with the model.

        Args:
            params: Groups so far; appended to.
            module: The model, or a part of it.
            prefix: Name of the part; empty for the model.
            **kwargs: Of mmengine's, which calls this for every sub-module.
        """
        if prefix:
            super().add_params(params, module, prefix, **kwargs)
            return
        single: list[dict] = []
        with _quiet():
            super().add_params(single, module, **kwargs)
        groups = self._merge(module, single)
        for group in groups:
            print_log(_describe(group), logger="current")
        params += groups

    def _merge(self, model: nn.Module, single: list[dict]) -> list[dict]:
        """Groups of one parameter each, scaled by depth, joined where their options are equal."""
        names = {id(param): name for name, param in model.named_parameters()}
        exempt = set(_exempt_parameters(model)) if self.no_decay else set()
        backbones = find_layered_modules(model) if self.layer_decay_rate < 1 else {}
        groups: dict[tuple, dict[str, Any]] = {}
        seen = set()
        for options in single:
            (param,) = options.pop("params")
            if id(param) in seen:  # heads may share branches
                continue
            seen.add(id(param))
            name = names[id(param)]
            layer, count = _depth(name, backbones)
            scale = self.layer_decay_rate ** (count - 1 - layer)
            options |= {
                "lr": options.get("lr", self.base_lr) * scale,
                "lr_scale": scale,
                "layer": layer if count > 1 else None,
            }
            if self.base_wd is not None:
                options.setdefault("weight_decay", self.base_wd)
                if id(param) in exempt and not self._sets_decay(name):
                    options["weight_decay"] = 0.0
            key = tuple(sorted((option, repr(value)) for option, value in options.items()))
            group = groups.setdefault(key, {"params": [], "param_names": [], **options})
            group["params"].append(param)
            group["param_names"].append(name)
        return list(groups.values())

    def _sets_decay(self, name: str) -> bool:
        """Whether the custom key that mmengine applies to this parameter is about its decay."""
        custom_keys = self.paramwise_cfg.get("custom_keys", {})
        matching = sorted(key for key in custom_keys if key in name)
        return bool(matching) and "decay_mult" in custom_keys[max(matching, key=len)]


def find_layered_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The backbones of a model that know how deep their parameters lie, by name.

    Some models have a ``get_layer_depth`` that only asks their backbone; the innermost counts.

    Raises:
        TypeError: There is none.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if callable(getattr(module, "get_layer_depth", None))
    }
    innermost = {
        name: module
        for name, module in found.items()
        if not any(other != name and _is_under(other, name) for other in found)
    }
    if not innermost:
        backbone = getattr(model, "backbone", None)
        raise TypeError(
            f"layer_decay_rate needs a backbone with a method get_layer_depth(name), and "
            f"{type(model).__name__} has none"
            + (f" (its backbone is a {type(backbone).__name__})" if backbone is not None else "")
            + "; use a backbone of mmeffvit or one of mmpretrain that has it, or leave "
            "layer_decay_rate out"
        )
    return innermost


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """mmengine logs a line for every option of every parameter, before they are scaled by depth."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_under(name: str, parent: str) -> bool:
    return not parent or name.startswith(parent + ".")


def _depth(name: str, backbones: dict[str, nn.Module]) -> tuple[int, int]:
    for prefix, backbone in backbones.items():
        if _is_under(name, prefix):
            return backbone.get_layer_depth(name[len(prefix) :].removeprefix("."))
    return 0, 1


def _exempt_parameters(model: nn.Module) -> Iterator[int]:
    """Identities of the parameters that `no_decay` spares."""
    for module in model.modules():
        named = getattr(module, "no_weight_decay", None)
        named = set(named()) if callable(named) else set()
        for name, param in module.named_parameters():
            if name in named:
                yield id(param)
        whole = isinstance(module, (*_NORMS, nn.Embedding))
        for name, param in module.named_parameters(recurse=False):
            if whole or name == "bias" or param.ndim <= 1:
                yield id(param)


def _describe(group: dict[str, Any]) -> str:
    layer = "" if group["layer"] is None else f"layer {group['layer']}: "
    decay = f", weight decay {group['weight_decay']:.3g}" if "weight_decay" in group else ""
    return (
        f"{layer}lr {group['lr']:.3g}{decay} for {len(group['params'])} parameters from "
        f"{group['param_names'][0]} to {group['param_names'][-1]}"
    )
