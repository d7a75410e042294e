"""Modules that two or more networks share."""

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.drop_path import DropPath
from mmeffvit.layers.ffn import ConvFFN
from mmeffvit.layers.norm import LayerNorm2d
from mmeffvit.layers.scale import LayerScale2d
from mmeffvit.layers.stem import ConvDownsample, ConvStem

from mmeffvit.layers.mixers import LePEAttention, S3AMixer, SECMixer, TokenMixer

__all__ = [
    "ConvDownsample",
    "ConvFFN",
    "ConvStem",
    "DropPath",
    "LayerNorm2d",
    "LayerScale2d",
    "LePEAttention",
    "MapContext",
    "S3AMixer",
    "SECMixer",
    "TokenMixer",
]
