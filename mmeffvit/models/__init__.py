"""Networks. Importing this module registers them; it needs torch and mmengine only."""

from mmeffvit.models.backbones import RAVLT, RMT, BaseBackbone, PyramidViT, SecViT, SSViT
from mmeffvit.models.classifier import PyramidClassifier
from mmeffvit.models.heads import ConvClsHead
from mmeffvit.models.necks import PlainToPyramid, ResizeToStrides
from mmeffvit.models.points import ConDaFormer, FlatFormer

__all__ = [
    "RAVLT",
    "RMT",
    "BaseBackbone",
    "ConDaFormer",
    "ConvClsHead",
    "FlatFormer",
    "PlainToPyramid",
    "PyramidClassifier",
    "PyramidViT",
    "ResizeToStrides",
    "SSViT",
    "SecViT",
]
