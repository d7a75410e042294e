"""Networks. Importing this module registers them; it needs torch and mmengine only."""

from mmeffvit.models.classifier import PyramidClassifier
from mmeffvit.models.heads import ConvClsHead

from mmeffvit.models.backbones import BaseBackbone, PyramidViT, SecViT, SSViT

__all__ = [
    "BaseBackbone",
    "ConvClsHead",
    "PyramidClassifier",
    "PyramidViT",
    "SSViT",
    "SecViT",
]
