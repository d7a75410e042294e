"""Which maps a network returns: their channels and strides, measured on the network itself."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmeffvit.swap.changes import plain
from mmeffvit.swap.errors import SwapError

#: side of the image that measures
_SIDE = 256
_WEIGHTS = ("init_cfg", "pretrained")
#: parts inside of blocks that change no shape; their operators may not run on the meta device
_INSIDES = ("dcn", "stage_with_dcn", "plugins", "sac", "stage_with_sac", "with_cp")


@dataclass(frozen=True)
class Level:
    """One map of a network.

    Attributes:
        channels: Channels C.
        stride: Image pixels per cell.
        depth_stride: The stride that the map would have if no stage were dilated: where in a
            pyramid of strides 4, 8, 16 and 32 it belongs.
    """

    channels: int
    stride: int
    depth_stride: int


@dataclass(frozen=True)
class Measured:
    """What is known of a backbone.

    Attributes:
        levels: The maps that it returns.
        parameters: Names of its parameters.
    """

    levels: tuple[Level, ...]
    parameters: tuple[str, ...]


class _TablesOnCpu(TorchFunctionMode):
    """Within a meta device: numbers that a constructor reads stay on the CPU.

    Such as the drop-path rates that transformers take from a ``torch.linspace``.
    """

    _factories = (torch.linspace, torch.arange, torch.tensor)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in self._factories:
            kwargs.setdefault("device", "cpu")
        return func(*args, **kwargs)


def build_meta(cfg: Mapping[str, Any] | Sequence, scope: str) -> nn.Module:
    """Build a module without memory for its weights, and without reading pretrained ones."""
    cfg = _without_weights(plain(cfg))
    with DefaultScope.overwrite_default_scope(scope), torch.device("meta"), _TablesOnCpu():
        module = MODELS.build(cfg)
    module = module.to("meta")
    module.eval()  # some return nothing
    return module


def _without_weights(cfg: Any) -> Any:
    if isinstance(cfg, dict):
        return {k: _without_weights(v) for k, v in cfg.items() if k not in _WEIGHTS}
    return [_without_weights(item) for item in cfg] if isinstance(cfg, list) else cfg


def measure_backbone(cfg: Mapping[str, Any], scope: str) -> Measured:
    """Build a backbone without memory and look at the maps that it returns.

    Args:
        cfg: Its config.
        scope: Default scope of the config.

    Raises:
        SwapError: It cannot be built or run here, or returns something else than maps.
    """
    name = cfg["type"]
    problem: Exception | None = None
    for drop in ((), _INSIDES):
        try:
            module = build_meta({k: v for k, v in cfg.items() if k not in drop}, scope)
            side = _image_side(cfg)
            image = torch.empty(1, cfg.get("in_channels", 3), side, side, device="meta")
            with torch.no_grad():
                maps = module(image)
            break
        except Exception as error:  # the toolboxes' constructors raise whatever they like
            problem = problem or error
    else:
        raise SwapError(
            f"The backbone {name!r} of this config could not be built and measured here, so that "
            f"what reads its maps is not known: {type(problem).__name__}: {problem}"
        ) from problem
    maps = [maps] if isinstance(maps, Tensor) else list(maps)
    if not all(isinstance(x, Tensor) and x.dim() == 4 for x in maps):
        raise SwapError(f"The backbone {name!r} does not return maps, but {_kinds(maps)}.")
    undone = _undilated(module)
    levels = []
    for i, x in enumerate(maps):
        stride = _stride(x, side)
        factor = undone[i] if i < len(undone) else 1
        levels.append(Level(x.shape[1], stride, stride * factor))
    return Measured(tuple(levels), tuple(name for name, _ in module.named_parameters()))


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


def measure_neck(
    cfg: Mapping[str, Any], levels: Sequence[Level], scope: str
) -> tuple[Level, ...] | None:
    """The maps that a neck makes of those of a backbone; None if that cannot be found out here."""
    try:
        neck = build_meta(cfg, scope)
        maps = tuple(
            torch.empty(1, lv.channels, _SIDE // lv.stride, _SIDE // lv.stride, device="meta")
            for lv in levels
        )
        with torch.no_grad():
            outs = neck(maps)
    except Exception:  # as above
        return None
    outs = [outs] if isinstance(outs, Tensor) else list(outs)
    result = []
    for x in outs:
        if not isinstance(x, Tensor) or x.dim() < 2:
            return None
        stride = _stride(x, _SIDE) if x.dim() == 4 else _SIDE
        result.append(Level(x.shape[1], stride, stride))
    return tuple(result)


def default_of(kind: str | type, key: str, scope: str) -> Any:
    """Default value of a constructor's argument; None if there is no such argument."""
    with DefaultScope.overwrite_default_scope(scope):
        cls = MODELS.get(kind) if isinstance(kind, str) else kind
    for base in getattr(cls, "__mro__", ()):
        parameter = inspect.signature(base.__init__).parameters.get(key)
        if parameter is not None:
            return None if parameter.default is inspect.Parameter.empty else parameter.default
    return None
