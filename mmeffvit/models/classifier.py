"""A backbone with the classifier of its published weights, without any toolbox."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from mmeffvit.models.heads import ConvClsHead


class PyramidClassifier(BaseModule):
    """Backbone and `ConvClsHead`; its keys start with ``backbone.`` and ``head.`` as in mmpretrain.

    Args:
        backbone: A pyramid that returns the un-normed map of its last stage last.
        num_classes: Number of classes.
        hidden_channels: Width of the head.
    """

    def __init__(self, backbone: BaseModule, num_classes: int = 1000, hidden_channels: int = 1024):
        super().__init__()
        self.backbone = backbone
        self.head = ConvClsHead(backbone.out_channels[-1], num_classes, hidden_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) to logits (B, num_classes)."""
        return self.head(self.backbone(x))


def create_classifier(name: str, num_classes: int = 1000, **kwargs: Any) -> PyramidClassifier:
    """The classifier of a published variant, such as ``'secvit-tiny'``, with random weights."""
    from mmeffvit.models.zoo import create_backbone

    backbone = create_backbone(name, **{"out_indices": (3,), "out_norm": False, **kwargs})
    return PyramidClassifier(backbone, num_classes)
