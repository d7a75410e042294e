"""Loading weights into a network, with a report, and an error if a part is missing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from mmengine.logging import print_log
from torch import Tensor, nn

from mmeffvit.checkpoint.convert import find_weights
from mmeffvit.checkpoint.files import CheckpointError, read_checkpoint
from mmeffvit.models.network import COUNTER, Network
from mmeffvit.registry import WEIGHT_INITIALIZERS


@dataclass
class LoadReport:
    """What happened to every key.

    Attributes:
        loaded: Keys of the network that got their values.
        adapted: Key of the network -> how its weight was made of one of another shape.
        ignored: Key of the checkpoint -> why it was not used.
        missing: Key of the network -> why it may keep its initial value.
    """

    loaded: list[str] = field(default_factory=list)
    adapted: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} tensors loaded"]
        for title in ("adapted", "ignored", "missing"):
            reasons: dict[str, list[str]] = {}
            for key, reason in getattr(self, title).items():
                reasons.setdefault(reason, []).append(key)
            for reason, keys in reasons.items():
                lines.append(f"{len(keys)} {title} ({reason}): {_some(keys)}")
        return "\n".join(lines)


def _some(keys: list[str], count: int = 4) -> str:
    return ", ".join(keys[:count]) + (f" and {len(keys) - count} more" if len(keys) > count else "")


def load_weights(
    module: nn.Module,
    checkpoint: Mapping,
    prefix: str | None = None,
    adapt_channels: bool = False,
) -> LoadReport:
    """Load weights under our keys into a backbone or a classifier, all of it or not at all.

    A backbone may leave out what a checkpoint has more: stages it does not build, the classifier.
    Norms on its outputs may be new, as classifiers have none, and tables that depend on the size of
    an image or a window are resized. The network itself says so (`Network.may_be_ignored`,
    `may_be_missing`, `adapt_weight`); everything else must fit.

    Args:
        module: The network.
        checkpoint: A dict of weights, or a training state that holds one.
        prefix: Take the keys that start with it, such as ``'backbone.'``; None finds out.
        adapt_channels: Let a network that takes another number of channels than the checkpoint's
            begin with the checkpoint's first layers, adapted by :func:`adapt_input`.

    Returns:
        The report.

    Raises:
        CheckpointError: A part of the network is not in the checkpoint, has another shape, or the
            checkpoint has weights that the network should have and does not. Nothing is changed
            then.
    """
    weights, _ = find_weights(checkpoint)
    own = module.state_dict()
    if prefix is None and not any(key.startswith("backbone.") for key in own):
        prefix = "backbone." if any(key.startswith("backbone.") for key in weights) else ""
    prefix = prefix or ""
    if prefix and not prefix.endswith("."):
        prefix += "."

    report = LoadReport()
    state: dict[str, Tensor] = {}
    problems = []
    for key, value in weights.items():
        name = key.removeprefix(prefix)
        if not key.startswith(prefix):
            report.ignored[key] = f"does not start with '{prefix}'"
        elif name not in own:
            reason = _may_be_ignored(module, name)
            if reason:
                report.ignored[key] = reason
            else:
                problems.append(f"{key} has no place in the network")
        elif own[name].shape == value.shape:
            state[name] = value
        else:
            network, inner = _network_of(module, name)
            fitted, how = network.adapt_weight(inner, value) if network else None, "resized"
            of_input = network is not None and _reads_input(network, value, own[name])
            if fitted is None and of_input and adapt_channels:
                fitted, how = adapt_input(value, network.in_channels), "averaged and repeated"
            if fitted is None:
                problem = f"{key} is {tuple(value.shape)}, not {tuple(own[name].shape)}"
                problems.append(problem + _CHANNELS_HINT * (of_input and not adapt_channels))
            else:
                state[name] = fitted
                report.adapted[name] = f"{tuple(value.shape)} {how} to {tuple(fitted.shape)}"
    for name in own:
        if name in state or prefix + name in weights:
            continue
        reason = _may_be_missing(module, name)
        if reason:
            report.missing[name] = reason
        else:
            problems.append(f"{name} is not in the checkpoint")
    if problems:
        raise CheckpointError(
            f"the checkpoint does not fit {type(module).__name__} ({len(state)} of {len(own)} "
            f"tensors would load): {'; '.join(problems[:4])}"
            + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
            + ". Check the variant and the prefix; official files are converted by "
            "tools/convert_checkpoint.py"
        )
    module.load_state_dict(state, strict=False)
    report.loaded = sorted(state)
    return report


#: what to do about first layers for another number of channels
_CHANNELS_HINT = " (adapt_channels=True makes one of the other)"


def adapt_input(weight: Tensor, channels: int) -> Tensor:
    """A first convolution for another number of channels.

    Args:
        weight: (C_out, C, kh, kw), such as one of RGB images, C being 3.
        channels: That the network takes.

    Returns:
        (C_out, channels, kh, kw): the mean over C, repeated and scaled by C / channels, so that an
        image whose channels are all alike gives what it gave.
    """
    mean = weight.mean(1, keepdim=True) * (weight.shape[1] / channels)
    return mean.repeat(1, channels, 1, 1)


def _reads_input(network: Network, value: Tensor, own: Tensor) -> bool:
    """Whether a convolution reads the network's input, and differs in its channels alone."""
    return (
        value.dim() == own.dim() == 4
        and own.shape[1] == network.in_channels != value.shape[1]
        and (own.shape[0], *own.shape[2:]) == (value.shape[0], *value.shape[2:])
    )


def _network_of(module: nn.Module, name: str) -> tuple[Network | None, str]:
    """The network of ours that a weight belongs to, and its name there."""
    if isinstance(module, Network):
        return module, name
    part, _, rest = name.partition(".")
    child = getattr(module, part, None)
    return _network_of(child, rest) if rest and isinstance(child, nn.Module) else (None, name)


def _may_be_ignored(module: nn.Module, name: str) -> str | None:
    network, inner = _network_of(module, name)
    if network is not None:
        return network.may_be_ignored(inner)
    part = name.partition(".")[0]
    return "the classifier" if part in Network.neighbours and not hasattr(module, part) else None


def _may_be_missing(module: nn.Module, name: str) -> str | None:
    network, inner = _network_of(module, name)
    if network is not None:
        return network.may_be_missing(inner)
    return COUNTER if name.endswith("num_batches_tracked") else None


@WEIGHT_INITIALIZERS.register_module(name="Pretrained")
class PretrainedInit:
    """``init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix='backbone.')`` of our backbones.

    Args:
        checkpoint: A file on disk, .pth or .safetensors.
        prefix: See :func:`load_weights`.
        adapt_channels: See :func:`load_weights`.
        map_location: Accepted for mmengine's sake; weights are read onto the CPU.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike,
        prefix: str | None = None,
        map_location: str | None = None,
        adapt_channels: bool = False,
    ):
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.adapt_channels = adapt_channels

    def __call__(self, module: nn.Module) -> None:
        checkpoint = read_checkpoint(self.checkpoint)
        report = load_weights(module, checkpoint, self.prefix, self.adapt_channels)
        print_log(f"{self.checkpoint} into {type(module).__name__}: {report}", logger="current")

    def _get_init_info(self) -> str:
        return f"{type(self).__name__}: load from {self.checkpoint}"
