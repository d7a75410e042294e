"""Loading weights into a network, with a report, and an error if a part is missing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from mmengine.logging import print_log
from torch import Tensor, nn

from mmeffvit.checkpoint.convert import find_weights
from mmeffvit.checkpoint.files import CheckpointError, read_checkpoint
from mmeffvit.registry import WEIGHT_INITIALIZERS


@dataclass
class LoadReport:
    """What happened to every key.

    Attributes:
        loaded: Keys of the network that got their values.
        ignored: Key of the checkpoint -> why it was not used.
        missing: Key of the network -> why it may keep its initial value.
    """

    loaded: list[str] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} tensors loaded"]
        for title, entries in (("ignored", self.ignored), ("missing", self.missing)):
            reasons: dict[str, list[str]] = {}
            for key, reason in entries.items():
                reasons.setdefault(reason, []).append(key)
            for reason, keys in reasons.items():
                lines.append(f"{len(keys)} {title} ({reason}): {_some(keys)}")
        return "\n".join(lines)


def _some(keys: list[str], count: int = 4) -> str:
    return ", ".join(keys[:count]) + (f" and {len(keys) - count} more" if len(keys) > count else "")


def load_weights(module: nn.Module, checkpoint: Mapping, prefix: str | None = None) -> LoadReport:
    """Load weights under our keys into a backbone or a classifier, all of it or not at all.

    A backbone may leave out what a checkpoint has more: stages it does not build, the classifier.
    Norms on its outputs may be new, as classifiers have none. Everything else must fit.

    Args:
        module: The network.
        checkpoint: A dict of weights, or a training state that holds one.
        prefix: Take the keys that start with it, such as ``'backbone.'``; None finds out.

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
        elif own[name].shape != value.shape:
            problems.append(f"{key} is {tuple(value.shape)}, not {tuple(own[name].shape)}")
        else:
            state[name] = value
    for name in own:
        if name in state or prefix + name in weights:
            continue
        reason = _may_be_missing(name)
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


def _may_be_ignored(module: nn.Module, name: str) -> str | None:
    if name.startswith("backbone.") and hasattr(module, "backbone"):
        return _may_be_ignored(module.backbone, name.removeprefix("backbone."))
    parts = name.split(".")
    built = getattr(module, "num_built_stages", None)
    if parts[0] in ("head", "decode_head") and not hasattr(module, parts[0]):
        return "the classifier"
    if built is not None and parts[0] == "stages" and int(parts[1]) >= built:
        return "a stage after the last output"
    if built is not None and parts[0] == "out_norms":
        return "a norm on a map that is not returned as such"
    return None


def _may_be_missing(name: str) -> str | None:
    if name.rpartition(".")[2] == "num_batches_tracked":
        return "a counter that nothing reads"
    if name.removeprefix("backbone.").startswith("out_norms."):
        return "a new norm on an output, which starts as the identity affine"
    return None


@WEIGHT_INITIALIZERS.register_module(name="Pretrained")
class PretrainedInit:
    """``init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix='backbone.')`` of our backbones.

    Args:
        checkpoint: A file on disk, .pth or .safetensors.
        prefix: See :func:`load_weights`.
        map_location: Accepted for mmengine's sake; weights are read onto the CPU.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike,
        prefix: str | None = None,
        map_location: str | None = None,
    ):
        self.checkpoint = checkpoint
        self.prefix = prefix

    def __call__(self, module: nn.Module) -> None:
        report = load_weights(module, read_checkpoint(self.checkpoint), self.prefix)
        print_log(f"{self.checkpoint} into {type(module).__name__}: {report}", logger="current")

    def _get_init_info(self) -> str:
        return f"{type(self).__name__}: load from {self.checkpoint}"
