"""Networks. Importing this module registers them; it needs torch and mmengine only."""

from mmeffvit.models.backbones import RAVLT, BaseBackbone, PyramidViT, SecViT, SSViT
from mmeffvit.models.classifier import PyramidClassifier
from mmeffvit.models.heads import ConvClsHead

__all__ = [
    "RAVLT",
    "BaseBackbone",
    "ConvClsHead",
    "PyramidClassifier",
    "PyramidViT",
    "SSViT",
    "SecViT",
]
