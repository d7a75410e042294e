"""Which maps a network returns: their channels and strides, measured on the network itself."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmeffvit.configs import convert
from mmeffvit.models.meta import RememberedShapes, TablesOnCpu
from mmeffvit.swap import upstream
from mmeffvit.swap.errors import SwapError

#: side of the image that measures
_SIDE = 256


@dataclass(frozen=True)
class Level:
    """One map of a network.

    Attributes:
        channels: Channels C.
        stride: Image pixels per cell.
        dilation: By how much smaller the stride is than if no stage were dilated.
    """

    channels: int
    stride: int
    dilation: int = 1

    @property
    def depth_stride(self) -> int:
        """The stride without dilated stages: where in a pyramid the map belongs."""
        return self.stride * self.dilation


def _run(
    cfg: Mapping[str, Any], scope: str, inputs: Tensor | tuple[Tensor, ...]
) -> tuple[nn.Module, list[Any]]:
    """A module without memory for its weights, pretrained ones neither, and what it returns."""
    cfg = convert(cfg, _without_weights)
    with DefaultScope.overwrite_default_scope(scope), torch.device("meta"), TablesOnCpu():
        module = MODELS.build(cfg)
    module = module.to("meta")
    module.eval()  # which of some networks returns nothing
    with torch.no_grad(), RememberedShapes():
        outs = module(inputs)
    return module, [outs] if isinstance(outs, Tensor) else list(outs)


def _without_weights(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if key not in upstream.WEIGHTS}
    return value


def _once(measure: Callable) -> Callable:
    """Keep what was measured: many configs have the same network, and plans ask more than once.

    A class that is registered anew under its name is measured anew.
    """
    kept: dict[tuple[Any, str], Any] = {}

    @functools.wraps(measure)
    def measured(cfg: Mapping[str, Any], *about: Any) -> Any:
        kind = _class_of(cfg["type"], about[-1])
        key = kind, repr((cfg, about))
        if key not in kept:
            found = measure(cfg, *about)
            if kind is None or found is None:
                return found
            kept[key] = found
        return kept[key]

    return measured


def _class_of(kind: str | type, scope: str) -> Any:
    """What a name stands for in a scope; None if nothing has it."""
    if not isinstance(kind, str):
        return kind
    with MODELS.switch_scope_and_registry(scope) as registry:
        return registry.get(kind)


@_once
def measure_backbone(
    cfg: Mapping[str, Any], scope: str
) -> tuple[tuple[Level, ...], tuple[str, ...]]:
    """Build a backbone without memory and look at the maps that it returns.

    Args:
        cfg: Its config.
        scope: Default scope of the config.

    Returns:
        The maps, and the names of its parameters.

    Raises:
        SwapError: It cannot be built or run here, or returns something else than maps.
    """
    module, levels = build_measured(cfg, scope)
    return levels, tuple(name for name, _ in module.named_parameters())


def build_measured(cfg: Mapping[str, Any], scope: str) -> tuple[nn.Module, tuple[Level, ...]]:
    """As :func:`measure_backbone`, with the network itself, which has no memory for weights."""
    name = cfg["type"]
    side = _image_side(cfg)
    image = torch.empty(1, cfg.get("in_channels", 3), side, side, device="meta")
    problem: Exception | None = None
    for drop in ((), upstream.INSIDES):
        kept = {key: value for key, value in cfg.items() if key not in drop}
        try:
            module, maps = _run(kept, scope, image)
            break
        except Exception as error:  # the toolboxes' constructors raise whatever they like
            problem = problem or error
    else:
        raise SwapError(
            f"The backbone {name!r} of this config could not be built and measured here, so that "
            f"what reads its maps is not known: {type(problem).__name__}: {problem}"
        ) from problem
    if not all(isinstance(x, Tensor) and x.dim() == 4 for x in maps):
        raise SwapError(f"The backbone {name!r} does not return maps, but {_kinds(maps)}.")
    undone = dict(enumerate(_undilated(module)))
    levels = (Level(x.shape[1], _stride(x, side), undone.get(i, 1)) for i, x in enumerate(maps))
    return module, tuple(levels)


def _image_side(cfg: Mapping[str, Any]) -> int:
    """Networks with tables of positions may take no other size than that of their config."""
    size = cfg.get("img_size") or _SIDE
    return size if isinstance(size, int) else max(size)


def _stride(x: Tensor, side: int) -> int:
    """Image pixels per cell, a power of two: some networks add a row and a column."""
    return 2 ** round(math.log2(side / x.shape[-1]))


def _kinds(maps: list) -> str:
    return ", ".join(
        f"a tensor of {x.dim()} axes" if isinstance(x, Tensor) else type(x).__name__ for x in maps
    )


def _undilated(module: nn.Module) -> list[int]:
    """For each output, by how much stages before it have dilation in place of a stride.

    A stage whose stride is 1 and whose dilation is greater than that of the stage before lost a
    stride of their ratio.
    """
    strides, dilations, indices = (
        getattr(module, key, None) for key in ("strides", "dilations", "out_indices")
    )
    if not all(isinstance(value, (list, tuple)) for value in (strides, dilations, indices)):
        return []
    if len(strides) != len(dilations):
        return []
    lost, current, before = [], 1, 1
    for stride, dilation in zip(strides, dilations):
        if stride == 1 and dilation > before:
            current *= dilation // before
        lost.append(current)
        before = dilation
    return [lost[i] for i in indices if i < len(lost)]


@_once
def measure_neck(
    cfg: Mapping[str, Any], levels: Sequence[Level], scope: str
) -> tuple[Level, ...] | None:
    """The maps that a neck makes of those of a backbone; None if that cannot be found out here."""
    sides = [(lv.channels, _SIDE // lv.stride) for lv in levels]
    maps = tuple(torch.empty(1, channels, side, side, device="meta") for channels, side in sides)
    try:
        _, outs = _run(cfg, scope, maps)
    except Exception:  # as above
        return None
    if not all(isinstance(x, Tensor) and x.dim() > 1 for x in outs):
        return None
    return tuple(Level(x.shape[1], _stride(x, _SIDE) if x.dim() == 4 else _SIDE) for x in outs)


def default_of(kind: str | type, key: str, scope: str) -> Any:
    """Default value of a constructor's argument; None if there is no such argument."""
    for base in getattr(_class_of(kind, scope), "__mro__", ()):
        parameter = inspect.signature(base.__init__).parameters.get(key)
        if parameter is not None:
            return None if parameter.default is inspect.Parameter.empty else parameter.default
    return None
