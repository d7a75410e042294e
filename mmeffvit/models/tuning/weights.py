"""Names of weights beside adapters, and weights into which low-rank adapters are merged."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

#: what the adapted layer is called inside the module that took its place, as in peft
BASE = "base_layer"


def adapted_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The modules with an adapter that stand in the places of layers, by the names of these."""
    found = {}
    for prefix, module in model.named_modules():
        for name in getattr(module, "tuned_layers", ()):
            whole = f"{prefix}.{name}" if prefix else name
            found[whole] = module.get_submodule(name)
    return found


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Take the adapters out of a model, and put them back; its other weights are the same ones."""
    adapted = adapted_layers(model)
    try:
        for name, module in adapted.items():
            set_module(model, name, getattr(module, BASE, module))
        yield
    finally:
        for name, module in adapted.items():
            set_module(model, name, module)


def set_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of another one."""
    parent, _, child = name.rpartition(".")
    model.get_submodule(parent)._modules[child] = module


def accept_ordinary_names(adapted: nn.Module) -> None:
    """Let a module with an adapter load weights under the names of the layer alone."""
    own = frozenset(name.partition(".")[0] for name in adapted.state_dict()) | {BASE}
    adapted._register_load_state_dict_pre_hook(partial(_rename, own=own))


def _rename(state_dict: dict[str, Tensor], prefix: str, *args: Any, own: frozenset[str]) -> None:
    for key in [key for key in state_dict if key.startswith(prefix)]:
        rest = key.removeprefix(prefix)
        if rest.partition(".")[0] not in own:
            state_dict[f"{prefix}{BASE}.{rest}"] = state_dict.pop(key)


def tuned_names(model: nn.Module) -> Callable[[str], str]:
    """From names of weights of a model without adapters to those with them."""
    adapted = adapted_layers(model)
    names = {ordinary_name(key, adapted): key for key in model.state_dict()} if adapted else {}
    return lambda key: names.get(key, key)


def ordinary_name(key: str, adapted: dict[str, nn.Module]) -> str:
    """The name of a weight where there are no adapters; that of an adapter stays."""
    for name in adapted:
        if key.startswith(f"{name}.{BASE}."):
            return f"{name}.{key.removeprefix(f'{name}.{BASE}.')}"
    return key


def merged_state_dict(model: nn.Module) -> OrderedDict[str, Tensor]:
    """Weights of a model with low-rank adapters, as those of one without; the model stays.

    Raises:
        ValueError: It has adapters that are no product of matrices, or none at all.
    """
    adapted = adapted_layers(model)
    fixed = [name for name, module in adapted.items() if not hasattr(module, "get_delta_weight")]
    if fixed or not adapted:
        raise ValueError(
            f"{fixed[0]} has an adapter with an activation in it, which is part of no weight; keep "
            "the config with its TunedBackbone"
            if fixed
            else f"{type(model).__name__} has no low-rank adapters that could be merged"
        )
    merged: OrderedDict[str, Tensor] = OrderedDict()
    for key, value in model.state_dict().items():
        name = next((name for name in adapted if key.startswith(f"{name}.")), None)
        if name is None:
            merged[key] = value
        elif key.startswith(f"{name}.{BASE}."):
            if key == f"{name}.{BASE}.weight":
                layer = adapted[name]
                delta = sum(layer.get_delta_weight(adapter) for adapter in layer.active_adapters)
                value = value + delta.detach().to(value)
            merged[ordinary_name(key, {name: adapted[name]})] = value
    return merged
