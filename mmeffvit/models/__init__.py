"""Networks. Importing this module registers them; it needs torch and mmengine only."""

from mmeffvit.models.backbones import BaseBackbone, PyramidViT, SecViT
from mmeffvit.models.classifier import PyramidClassifier
from mmeffvit.models.heads import ConvClsHead

__all__ = ["BaseBackbone", "ConvClsHead", "PyramidClassifier", "PyramidViT", "SecViT"]
