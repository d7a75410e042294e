"""Weights that a network starts from, by name or from a file."""

from __future__ import annotations

import os
from collections.abc import Mapping

from mmengine.logging import print_log
from torch import Tensor, nn

from mmeffvit.checkpoint.by_name import fetch, weights_path
from mmeffvit.checkpoint.convert import find_weights
from mmeffvit.checkpoint.files import read_checkpoint
from mmeffvit.checkpoint.load import LoadReport, load_weights
from mmeffvit.models.classifier import Classifier
from mmeffvit.models.network import input_channels
from mmeffvit.models.weights import PREFIX
from mmeffvit.registry import WEIGHT_INITIALIZERS


def start_from(
    module: nn.Module, weights: str | os.PathLike, network: str | None = None
) -> LoadReport:
    """Load published weights, or a file under our keys, into a backbone or a classifier.

    The last layer of a classifier with another number of classes than the weights' stays as it is,
    and first layers of RGB images are adapted to other numbers of channels.

    Args:
        module: The network.
        weights: One of `mmeffvit.list_weights`, a tag such as ``'in1k'``, or a file.
        network: Name of the network, such as ``'ravlt-tiny'``; needed for a tag.

    Raises:
        ValueError: There are no weights of this name.
        CheckpointError: They cannot be fetched, or do not fit.
    """
    path = weights_path(weights, network)
    state, _ = find_weights(read_checkpoint(path))
    if isinstance(module, Classifier):
        state = _without_other_classes(module, state)
    report = load_weights(module, state, adapt_channels=input_channels(module) != 3)
    print_log(f"{path.name} into {type(module).__name__}: {report}", logger="current")
    return report


def _without_other_classes(module: Classifier, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the module's own last layer, if theirs has other classes."""
    own = {key: value for key, value in module.state_dict().items() if key.startswith("head.fc.")}
    if all(key not in state or len(state[key]) == len(value) for key, value in own.items()):
        return dict(state)
    print_log("the classifier has other classes than its weights: its last layer is new", "current")
    return {**state, **own}


@WEIGHT_INITIALIZERS.register_module(name="Pretrained")
class PretrainedInit:
    """``init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix='backbone.')`` of our backbones.

    Args:
        checkpoint: A file on disk, .pth or .safetensors, or ``mmeffvit://NAME`` of published
            weights, which are fetched when weights are initialised, by one process of a machine.
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
        named = str(self.checkpoint).startswith(PREFIX)
        checkpoint = read_checkpoint(fetch(self.checkpoint) if named else self.checkpoint)
        report = load_weights(module, checkpoint, self.prefix, self.adapt_channels)
        print_log(f"{self.checkpoint} into {type(module).__name__}: {report}", logger="current")

    def _get_init_info(self) -> str:
        return f"{type(self).__name__}: load from {self.checkpoint}"
