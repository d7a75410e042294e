"""Which layers of a backbone are adapted."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mmeffvit.errors import did_you_mean

#: parts of names under which networks keep their attention
_MIXERS = re.compile(r"attn|attention|mixer|msa", re.IGNORECASE)
#: sides of the image on which a network is tried
_SIDES = (64, 224, 256)


def find_targets(network: nn.Module, wanted: str | Sequence[str] | None = None) -> list[str]:
    """Names of the layers that LoRA adapts: linear layers and 1x1 convolutions.

    What the network itself names (`lora_targets`), else the projections of all that is called
    attention or mixer, and where there is none all linear layers and 1x1 convolutions. Left out is
    what the options of the network have frozen, and what is not called as a layer: weights that the
    code multiplies with by itself (the fused projection of torch's ``MultiheadAttention``, or of
    BEiT), where an adapter would be passed by.

    Args:
        network: The backbone.
        wanted: A regular expression, or several, each of which is looked for in the names.

    Raises:
        ValueError: Nothing can be adapted, or nothing of what was wanted.
    """
    possible = {name: m for name, m in network.named_modules() if is_projection(m)}
    patterns = [wanted] if isinstance(wanted, str) else list(wanted or ())
    absent = [p for p in patterns if not any(re.search(p, name) for name in possible)]
    if absent:
        raise ValueError(
            f"targets={absent} are in no name of a linear layer or 1x1 convolution of "
            f"{type(network).__name__}{did_you_mean(absent[0], possible, most=3)}; there are "
            f"{_some(possible)}"
        )
    called = called_modules(network, possible)
    usable = [n for n, m in possible.items() if n in called and m.weight.requires_grad]
    if patterns:
        found = [name for name in usable if any(re.search(p, name) for p in patterns)]
    elif hasattr(network, "lora_targets"):
        own = set(network.lora_targets())
        found = [name for name in usable if name in own] or usable
    else:
        found = [name for name in usable if _MIXERS.search(name)] or usable
    if not found:
        raise ValueError(
            f"no layer of {type(network).__name__} can be adapted: of its linear layers and 1x1 "
            f"convolutions, {_some(possible)}, none is both called as a layer and not frozen by "
            "the network's own options (frozen, frozen_stages)"
        )
    return found


def is_projection(module: nn.Module) -> bool:
    """Whether a layer is a linear one, or a 1x1 convolution without groups."""
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def called_modules(network: nn.Module, names: Iterable[str]) -> set[str]:
    """Which of some modules are called in a forward pass; all where that cannot be tried."""
    names = list(names)
    for on_meta in (True, False):
        trial = _copy(network, on_meta)
        called: set[str] = set()
        for name in names:
            trial.get_submodule(name).register_forward_hook(_note(called, name))
        for side in _SIDES:
            if _runs(trial, side):
                return called
            called.clear()
    return set(names)


def _note(called: set[str], name: str):
    def note(*args) -> None:
        called.add(name)

    return note


def _runs(trial: nn.Module, side: int) -> bool:
    parameter = next(trial.parameters())
    channels = getattr(trial, "in_channels", 3)
    channels = channels if isinstance(channels, int) else 3
    image = torch.zeros(1, channels, side, side, device=parameter.device, dtype=parameter.dtype)
    with contextlib.suppress(Exception):  # networks raise whatever they like
        with torch.no_grad(), torch.device("cpu"), torch.random.fork_rng(devices=[]):
            trial(image)
        return True
    return False


def _copy(network: nn.Module, on_meta: bool) -> nn.Module:
    """The network in evaluation mode, on the meta device without memory for its weights."""
    memo: dict[int, Tensor] = {}
    if on_meta:
        for parameter in network.parameters():
            empty = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
            memo[id(parameter)] = empty
        for buffer in network.buffers():
            memo[id(buffer)] = buffer.detach().to("meta")
    trial = copy.deepcopy(network, memo)
    trial.eval()  # which returns nothing in some networks of the toolboxes
    return trial


def _some(names: Iterable[str], count: int = 6) -> str:
    names = list(names)
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return (", ".join(names[:count]) or "none") + more
