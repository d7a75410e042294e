"""A backbone of which few parameters are trained, by one entry of a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mmengine
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmeffvit.models.extend import extend
from mmeffvit.models.network import COUNTER
from mmeffvit.models.tuning.adaptformer import add_adapters
from mmeffvit.models.tuning.lora import add_lora
from mmeffvit.models.tuning.targets import find_targets
from mmeffvit.models.tuning.weights import (
    BASE,
    accept_ordinary_names,
    adapted_layers,
    without_adapters,
)
from mmeffvit.registry import MODELS


@MODELS.register_module(name="TunedBackbone")
def tuned_backbone(
    backbone: Mapping[str, Any] | nn.Module,
    lora: int | None = None,
    adaptformer: int | None = None,
    targets: str | Sequence[str] | None = None,
    alpha: float | None = None,
    dropout: float = 0.0,
    scale: float = 0.1,
) -> nn.Module:
    """Build a backbone that is frozen but for adapters, and for what pretrained weights lack.

    It stays an object of its own class, with its own names of weights but for the adapted layers:
    ``x.weight`` is ``x.base_layer.weight`` there. Weights under its ordinary names are loaded as
    well, in `init_weights` and later. Trained as well are parts that begin anew, such as norms on
    outputs. Frozen batch norms keep their statistics; stochastic depth and dropout are as in any
    training. Without `lora` and `adaptformer` nothing is adapted, and all is as in evaluation.

    Args:
        backbone: Its config, or the network itself: of this package, of a toolbox, or a
            `LibraryBackbone`.
        lora: Rank of low-rank adapters (arXiv 2106.09685), by peft.
        adaptformer: Channels of the bottlenecks beside the feed-forward networks (AdaptFormer,
            arXiv 2205.13535); the paper's are 1 to 64.
        targets: Of `lora`: regular expressions, looked for in the names of linear layers and 1x1
            convolutions; see `find_targets` for those by default.
        alpha: Of `lora`: what adapters add is scaled by alpha / rank; None takes the rank.
        dropout: Of `lora`: rate at which inputs of adapters are dropped in training.
        scale: Of `adaptformer`: scales what adapters add.

    Raises:
        ValueError: The arguments do not fit together, or there is nothing to adapt.
        ImportError: `lora` needs peft, which is not installed.
    """
    _check(lora, adaptformer, targets, alpha, dropout)
    # a config may be built in the scope of any toolbox
    build = mmengine.registry.MODELS.build
    network = backbone if isinstance(backbone, nn.Module) else build(dict(backbone))
    if adapted_layers(network):
        raise ValueError(f"{type(network).__name__} has adapters already; name one TunedBackbone")
    new = [
        p for name, p in network.named_parameters() if p.requires_grad and _is_new(network, name)
    ]
    names: Sequence[str] = ()
    if lora is not None:
        names = find_targets(network, targets)
        add_lora(network, names, lora, lora if alpha is None else alpha, dropout)
    elif adaptformer is not None:
        names = add_adapters(network, adaptformer, scale)
    else:
        network.requires_grad_(False)
    for parameter in new:
        parameter.requires_grad_(True)
    network.tuned_layers = tuple(names)
    for module in adapted_layers(network).values():
        accept_ordinary_names(module)
    extend(network, _Tuned if hasattr(network, "get_layer_depth") else _TunedTraining, "Tuned")
    return network


def _check(
    lora: int | None,
    adaptformer: int | None,
    targets: str | Sequence[str] | None,
    alpha: float | None,
    dropout: float,
) -> None:
    if lora is not None and adaptformer is not None:
        raise ValueError("give lora= or adaptformer=, not both")
    for name, value in (("lora", lora), ("adaptformer", adaptformer)):
        if value is not None and (isinstance(value, bool) or value != int(value) or value < 1):
            raise ValueError(f"{name} must be a whole number from 1, got {value!r}")
    if lora is None and (targets is not None or alpha is not None or dropout):
        raise ValueError("targets, alpha and dropout belong to lora=RANK, which is not given")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")


def _is_new(network: nn.Module, name: str) -> bool:
    """Whether pretrained weights lack a parameter: a norm on an output, a part beside a ViT."""
    if hasattr(network, "may_be_missing"):
        return network.may_be_missing(name) not in (None, COUNTER)
    # toolboxes put norms on outputs directly into the backbone; batch norms there are of the stem
    part, _, rest = name.partition(".")
    module = getattr(network, part)
    return "." not in rest and type(module).__name__.startswith(("LayerNorm", "LN", "GroupNorm"))


class _TunedTraining:
    """How a tuned backbone begins, and how it trains; a base before its own class."""

    def init_weights(self) -> None:
        """As ever; what draws or loads weights sees no adapters, which keep their beginning."""
        initialize = getattr(super(), "init_weights", None)
        if initialize is not None:
            with without_adapters(self):
                initialize()

    def train(self, mode: bool = True) -> nn.Module:
        """As ever, but for batch norms that are frozen, and for networks that are."""
        super().train(mode and bool(self.tuned_layers))
        for module in self.modules():
            own = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
            if any(own):
                module.training = mode
            elif own and isinstance(module, _BatchNorm):
                module.training = False
        return self


class _Tuned(_TunedTraining):
    """The same, of a network that knows how deep its layers are."""

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """See `BaseBackbone`: an adapter is as deep as its layer."""
        for name in self.tuned_layers:
            layer = f"{prefix}{name}."
            if param_name.startswith(layer):
                inside, _ = next(self.get_submodule(f"{name}.{BASE}").named_parameters())
                param_name = layer + inside
        return super().get_layer_depth(param_name, prefix)
