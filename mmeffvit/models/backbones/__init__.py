"""Backbones: one file per network, over the contract of `base.py`."""

from mmeffvit.models.backbones.base import BaseBackbone
from mmeffvit.models.backbones.conv_pyramid import ConvPyramid, PyramidViT
from mmeffvit.models.backbones.crossformer import CrossFormer
from mmeffvit.models.backbones.crossvit import CrossViT
from mmeffvit.models.backbones.cswin import CSWin
from mmeffvit.models.backbones.dinat import NAT, DiNAT
from mmeffvit.models.backbones.dinat_s import DiNAT_s
from mmeffvit.models.backbones.favit import FaViT
from mmeffvit.models.backbones.plain import PlainViT
from mmeffvit.models.backbones.ppma import PPMA
from mmeffvit.models.backbones.pyramid import Pyramid
from mmeffvit.models.backbones.ravlt import RAVLT
from mmeffvit.models.backbones.resformer import ResFormer
from mmeffvit.models.backbones.rmt import RMT
from mmeffvit.models.backbones.secvit import SecViT
from mmeffvit.models.backbones.sret import SReT
from mmeffvit.models.backbones.ssvit import SSViT
from mmeffvit.models.backbones.svt import SVT
from mmeffvit.models.backbones.uniformer import UniFormer
from mmeffvit.models.backbones.vit_comer import ViTCoMer
from mmeffvit.models.backbones.vitar import ViTAR

__all__ = [
    "NAT",
    "PPMA",
    "RAVLT",
    "RMT",
    "SVT",
    "BaseBackbone",
    "CSWin",
    "ConvPyramid",
    "CrossFormer",
    "CrossViT",
    "DiNAT",
    "DiNAT_s",
    "FaViT",
    "PlainViT",
    "Pyramid",
    "PyramidViT",
    "ResFormer",
    "SReT",
    "SSViT",
    "SecViT",
    "UniFormer",
    "ViTAR",
    "ViTCoMer",
]
