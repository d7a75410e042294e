"""Whole detectors and segmentors of mmdet 2, mmdet 3, mmseg 0.x and mmseg 1.x to models here.

Backbones are converted by their family's rules. Necks and heads of the published recipes (FPN, RPN,
RetinaNet, Mask R-CNN, Cascade Mask R-CNN, Semantic FPN, UPerNet) have had the names and shapes of
today since mmdet 2.0 and mmseg 0.5: what the toolboxes rename when they load (FCOS's and DETR's
heads, VFNet's, deformable convolutions) is not in them. So a key that is not one of the model is
none that is known, and refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

import mmeffvit
from mmeffvit import compat
from mmeffvit.checkpoint.convert import convert_official, find_weights
from mmeffvit.checkpoint.files import CheckpointError
from mmeffvit.models.network import COUNTER, Network

#: in files of the toolboxes
_BACKBONE = "backbone."


@dataclass
class WholeConversion:
    """What became of a whole model.

    Attributes:
        model: Class of the model, such as ``'MaskRCNN'``.
        family: Family of its backbone.
        container: Entry of the file that the weights came from; '' if it held them directly.
        state_dict: Weights under the names of the model.
        renamed: Key of the file -> our name, where they differ.
        kept: Keys of the file that are names of the model.
        ignored: Key of the file -> why it is left out.
        missing: Name of the model -> why it need not be there.
    """

    model: str
    family: str
    container: str
    state_dict: dict[str, Tensor]
    renamed: dict[str, str] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = Counter(key.partition(".")[0] for key in self.state_dict)
        source = f"the entry '{self.container}'" if self.container else "the file itself"
        lines = [
            f"{self.model} with a backbone of {self.family}: {len(self.state_dict)} tensors from "
            f"{source} ({', '.join(f'{name} {count}' for name, count in parts.items())}), of "
            f"which {len(set(self.renamed.values()))} were renamed"
        ]
        lines += [f"  ignored {key}: {reason}" for key, reason in self.ignored.items()]
        lines += [f"  {len(self.missing)} not in the file: {COUNTER}"] * bool(self.missing)
        return "\n".join(lines)

    def every_key(self) -> str:
        """One line for each key of the file."""
        renamed = (f"{key} -> {name}" for key, name in self.renamed.items())
        ignored = (f"{key} ignored: {reason}" for key, reason in self.ignored.items())
        return "\n".join([*renamed, *self.kept, *ignored])


def convert_whole(checkpoint: Mapping[str, Any], config: Config | str) -> WholeConversion:
    """Convert a file of a whole model to the model of a config.

    Args:
        checkpoint: What the file holds: weights, or a training state with them.
        config: A config, or the name of one of ours, such as
            ``'ravlt/mask-rcnn_ravlt-t_fpn_1x_coco.py'``.

    Raises:
        CheckpointError: Something in the file, or in the model, has no counterpart.
        FileNotFoundError: There is no such config.
    """
    compat.setup()
    if not isinstance(config, Config):
        config = Config.fromfile(Path(mmeffvit.__file__).parent / ".mim" / "configs" / config)
    scope = config.get("default_scope", "mmengine")
    with DefaultScope.overwrite_default_scope(scope), torch.device("meta"):
        model = MODELS.build(config.model)
    return convert_model(checkpoint, model)


def convert_model(checkpoint: Mapping[str, Any], model: nn.Module) -> WholeConversion:
    """Convert a file of a whole model to the names of a model that is built.

    Args:
        checkpoint: What the file holds: weights, or a training state with them.
        model: A detector or segmentor around one of our backbones, on any device.

    Raises:
        CheckpointError: Something in the file, or in the model, has no counterpart.
    """
    network = getattr(model, "backbone", None)
    if not isinstance(network, Network):
        raise CheckpointError(
            f"{type(model).__name__} has no backbone of ours, but {type(network).__name__}; files "
            "of other backbones are read by their toolbox"
        )
    weights, container = find_weights(checkpoint)
    result = WholeConversion(type(model).__name__, network.family, container, {})
    own = model.state_dict()
    inside = {k: v for k, v in weights.items() if k.startswith(_BACKBONE)}
    if not inside:
        raise CheckpointError(
            "no key starts with 'backbone.': this is no detector or segmentor of a toolbox. A "
            "classifier is converted with its family: tools/convert_checkpoint.py "
            f"{network.family} SOURCE TARGET"
        )
    if inside.keys() <= own.keys():  # such as a file that was trained or converted here
        _keep(result, inside)
    else:
        _convert_backbone(result, inside, network)
    _keep(result, {k: v for k, v in weights.items() if k not in inside})
    problems = _problems(result, own)
    if problems:
        raise CheckpointError(_refusal(result, own, problems))
    return result


def _keep(result: WholeConversion, weights: Mapping[str, Tensor]) -> None:
    result.kept += weights
    result.state_dict.update(weights)


def _convert_backbone(
    result: WholeConversion, weights: Mapping[str, Tensor], network: Network
) -> None:
    conversion = convert_official(weights, network.family)
    names = {key: f"{_BACKBONE}{key}" for key in (*conversion.renamed, *conversion.ignored)}
    for key, targets in conversion.renamed.items():
        if all(target.startswith(network.prefix) for target in targets):
            result.renamed[names[key]] = " and ".join(targets)
            result.state_dict |= {target: conversion.state_dict[target] for target in targets}
        else:
            result.ignored[names[key]] = "the classifier of the backbone, which nothing calls"
    for key, reason in conversion.ignored.items():
        result.ignored[names[key]] = reason


def _problems(result: WholeConversion, own: Mapping[str, Tensor]) -> list[str]:
    problems = []
    for name, value in result.state_dict.items():
        if name not in own:
            problems.append(f"{name} has no place in the model")
        elif own[name].shape != value.shape:
            problems.append(f"{name} is {tuple(value.shape)}, not {tuple(own[name].shape)}")
    for name in own.keys() - result.state_dict.keys():
        if name.endswith("num_batches_tracked"):
            result.missing[name] = COUNTER
        else:
            problems.append(f"{name} is not in the file")
    return sorted(problems)


def _refusal(result: WholeConversion, own: Mapping[str, Tensor], problems: list[str]) -> str:
    fitting = sum(
        name in own and own[name].shape == value.shape for name, value in result.state_dict.items()
    )
    rest = f"; and {len(problems) - 6} more" if len(problems) > 6 else ""
    return (
        f"the file does not fit the {result.model} of the config ({fitting} of {len(own)} tensors "
        f"would load): {'; '.join(problems[:6])}{rest}. {_advice(result, own)}"
    )


def _advice(result: WholeConversion, own: Mapping[str, Tensor]) -> str:
    """What the differences look like."""
    state = result.state_dict
    both = [name for name in state if name in own]
    backbone = [n for n in both if n.startswith(_BACKBONE) and state[n].shape != own[n].shape]
    classes = ("fc_cls", "fc_reg", "conv_logits", "retina_cls", "conv_seg")
    others = [n for n in both if state[n].shape != own[n].shape and n not in backbone]
    if any(n.startswith(("bbox_head.fc_", "mask_head.")) for n in state):
        return "It is a file of mmdet 1.x, whose heads are not those of today"
    if backbone:
        return "Its backbone is another variant: take the config of that one"
    if others and all(any(c in n for c in classes) for n in others):
        return "It knows another number of classes: set num_classes of the heads in the config"
    return "It belongs to another recipe: take the config of that one"
