"""A backbone with the classifier of its published weights, without any toolbox."""

from __future__ import annotations

import warnings
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.models.backbones.base import BaseBackbone


class Classifier(BaseModule):
    """Backbone and head; keys start with ``backbone.`` and ``head.`` as in mmpretrain.

    Args:
        backbone: A network that returns what the head takes.
        head: Outputs of the backbone to logits, such as what `BaseBackbone.make_head` makes.
    """

    def __init__(self, backbone: BaseBackbone, head: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, num_classes)."""
        return self.head(self.backbone(x))


class PyramidClassifier(Classifier):
    """Old form of `Classifier`, which made the head by itself."""

    def __init__(
        self, backbone: BaseBackbone, num_classes: int = 1000, hidden_channels: int = 1024
    ):
        warnings.warn(
            "PyramidClassifier(backbone, num_classes) is now "
            "Classifier(backbone, backbone.make_head(num_classes))",
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(backbone, backbone.make_head(num_classes, hidden_channels=hidden_channels))


def create_classifier(name: str, num_classes: int = 1000, **kwargs: Any) -> Classifier:
    """The classifier of a published variant, such as ``'secvit-tiny'``, with random weights.

    Args:
        name: One of `mmeffvit.list_backbones`.
        num_classes: Number of classes.
        **kwargs: Arguments of the network.

    Raises:
        ValueError: There is no such network, or its authors published no classifiers.
    """
    from mmeffvit.models import zoo

    family, variant = zoo.split_name(name)
    cls = zoo.backbone_classes()[family]
    backbone = cls(arch=variant, **{**cls.classifier_options, **kwargs})
    return Classifier(backbone, backbone.make_head(num_classes))
