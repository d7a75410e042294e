"""Modules that two or more networks share."""

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.drop_path import DropPath
from mmeffvit.layers.ffn import ConvFFN
from mmeffvit.layers.mixers import (
    LePEAttention,
    RotaryLePEAttention,
    S3AMixer,
    SECMixer,
    TokenMixer,
)
from mmeffvit.layers.mixers.masa import MaSAMixer
from mmeffvit.layers.mixers.rala import GatedSoftmaxMixer, RALAMixer
from mmeffvit.layers.norm import LayerNorm2d
from mmeffvit.layers.scale import LayerScale2d
from mmeffvit.layers.stem import ConvDownsample, ConvStem

__all__ = [
    "ConvDownsample",
    "ConvFFN",
    "ConvStem",
    "DepthwiseConv2d",
    "DropPath",
    "GatedSoftmaxMixer",
    "LayerNorm2d",
    "LayerScale2d",
    "LePEAttention",
    "MaSAMixer",
    "MapContext",
    "RALAMixer",
    "RotaryLePEAttention",
    "S3AMixer",
    "SECMixer",
    "TokenMixer",
]
