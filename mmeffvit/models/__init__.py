"""Networks. Importing this module registers them; it needs torch and mmengine only."""

from mmeffvit.models import heads
from mmeffvit.models.backbones import (
    NAT,
    PPMA,
    RAVLT,
    RMT,
    SVT,
    BaseBackbone,
    CrossFormer,
    CrossViT,
    CSWin,
    DiNAT,
    DiNAT_s,
    FaViT,
    PlainViT,
    Pyramid,
    PyramidViT,
    ResFormer,
    SecViT,
    SReT,
    SSViT,
    UniFormer,
    ViTAR,
    ViTCoMer,
)
from mmeffvit.models.classifier import Classifier, PyramidClassifier
from mmeffvit.models.heads import (
    BatchNormClassifier,
    BranchClassifier,
    ConvClassifier,
    LinearClassifier,
    NormClassifier,
)
from mmeffvit.models.libraries import LibraryBackbone, ViTCoMerAdapter
from mmeffvit.models.methods import masked_backbone, recursive_pyramid, sparse_backbone
from mmeffvit.models.necks import CrossScaleAttention, PlainToPyramid, ResizeToStrides
from mmeffvit.models.points import ConDaFormer, FlatFormer
from mmeffvit.models.tuning import tuned_backbone

__all__ = [
    "NAT",
    "PPMA",
    "RAVLT",
    "RMT",
    "SVT",
    "BaseBackbone",
    "BatchNormClassifier",
    "BranchClassifier",
    "CSWin",
    "Classifier",
    "ConDaFormer",
    "ConvClassifier",
    "CrossFormer",
    "CrossScaleAttention",
    "CrossViT",
    "DiNAT",
    "DiNAT_s",
    "FaViT",
    "FlatFormer",
    "LibraryBackbone",
    "LinearClassifier",
    "NormClassifier",
    "PlainToPyramid",
    "PlainViT",
    "Pyramid",
    "PyramidClassifier",
    "PyramidViT",
    "ResFormer",
    "ResizeToStrides",
    "SReT",
    "SSViT",
    "SecViT",
    "UniFormer",
    "ViTAR",
    "ViTCoMer",
    "ViTCoMerAdapter",
    "masked_backbone",
    "recursive_pyramid",
    "sparse_backbone",
    "tuned_backbone",
]


def __getattr__(name: str):
    if name == "ConvClsHead":
        return heads.ConvClsHead  # warns
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
