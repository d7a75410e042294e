"""Loading weights into a network, with a report, and an error if a part is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from mmeffvit.checkpoint.convert import Conversion, convertible_classes, find_weights
from mmeffvit.checkpoint.files import CheckpointError
from mmeffvit.models.classifier import create_classifier
from mmeffvit.models.libraries import LibraryBackbone
from mmeffvit.models.network import COUNTER, Network
from mmeffvit.models.points import PointSegmentor
from mmeffvit.models.tuning import without_adapters
from mmeffvit.models.zoo import network_classes, point_backbone_classes


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
    with without_adapters(module):  # of which pretrained weights know nothing
        return _load(module, checkpoint, prefix, adapt_channels)


def _load(
    module: nn.Module, checkpoint: Mapping, prefix: str | None, adapt_channels: bool
) -> LoadReport:
    weights, _ = find_weights(checkpoint)
    if hasattr(module, "rename_weights"):  # files may have the names of another library
        weights = module.rename_weights(weights)
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


def check_by_loading(conversion: Conversion, variant: str | None = None) -> str:
    """Load the result into the published variant, and say what happened.

    Args:
        conversion: Of weights of a family.
        variant: The variant that it should be; None takes the one that was recognised.

    Raises:
        CheckpointError: It is of no published variant, or does not fit.
    """
    if conversion.family not in network_classes():
        neck = convertible_classes()[conversion.family]
        try:
            neck.of_weights(conversion.state_dict, num_heads=1)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        return f"into {neck.__name__}: all of it"
    variant = variant or conversion.variant
    if variant is None:
        raise CheckpointError(
            f"the widths and depths are those of no published {conversion.family}; known are "
            f"{', '.join(network_classes()[conversion.family].arch_zoo)}. For other sizes use "
            "mmeffvit.checkpoint.convert_official in Python"
        )
    name = f"{conversion.family}-{variant}"
    if conversion.family in point_backbone_classes():
        backbone = point_backbone_classes()[conversion.family](arch=variant)
        classifier = conversion.state_dict.get("decode_head.conv_seg.weight")
        if classifier is None:
            report = load_weights(backbone, conversion.state_dict, backbone.prefix)
            return f"into {name}: {report}"
        network = PointSegmentor(backbone, {"num_classes": len(classifier)})
        return f"into the segmentor of {name}: {load_weights(network, conversion.state_dict)}"
    head = conversion.state_dict.get("head.fc.weight")
    network = create_classifier(name, 1000 if head is None else len(head))
    if head is None:
        return f"into {name}: {load_weights(network.backbone, conversion.state_dict)}"
    return f"into the classifier of {name}: {load_weights(network, conversion.state_dict)}"


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


def _reads_input(network: Network | LibraryBackbone, value: Tensor, own: Tensor) -> bool:
    """Whether a convolution reads the network's input, and differs in its channels alone."""
    return (
        value.dim() == own.dim() == 4
        and own.shape[1] == network.in_channels != value.shape[1]
        and (own.shape[0], *own.shape[2:]) == (value.shape[0], *value.shape[2:])
    )


def _network_of(module: nn.Module, name: str) -> tuple[Network | LibraryBackbone | None, str]:
    """The network of ours that a weight belongs to, and its name there."""
    if isinstance(module, (Network, LibraryBackbone)):
        return module, name
    part, _, rest = name.partition(".")
    child = getattr(module, part, None)
    return _network_of(child, rest) if rest and isinstance(child, nn.Module) else (None, name)


def resized_weight(module: nn.Module, name: str, value: Tensor) -> Tensor | None:
    """A table of another size, made to fit by the network of ours that it belongs to.

    Args:
        module: A network, or a model that has one.
        name: Of the parameter in it.
        value: What the checkpoint has for it.

    Returns:
        The new value; None if it is no table of a network of ours.
    """
    network, inner = _network_of(module, name)
    return network.adapt_weight(inner, value) if network else None


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
