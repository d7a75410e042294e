"""Networks. Importing this module registers them; it needs torch and mmengine only."""

from mmeffvit.models.backbones import RAVLT, RMT, BaseBackbone, PyramidViT, SecViT, SSViT
from mmeffvit.models.classifier import PyramidClassifier
from mmeffvit.models.heads import ConvClsHead
from mmeffvit.models.necks import ResizeToStrides

__all__ = [
    "RAVLT",
    "RMT",
    "BaseBackbone",
    "ConvClsHead",
    "PyramidClassifier",
    "PyramidViT",
    "ResizeToStrides",
    "SSViT",
    "SecViT",
]
