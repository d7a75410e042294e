"""Modules that two or more networks share."""

from mmeffvit.layers.block import Block
from mmeffvit.layers.context import Context, MapContext
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.drop_path import DropPath
from mmeffvit.layers.ffn import MLP, ConvFFN
from mmeffvit.layers.mixers import (
    CrossShapedAttention,
    CrossShapedMixer,
    GatedSoftmaxMixer,
    ManhattanAttention,
    MaSAMixer,
    NeighbourhoodAttention,
    NeighbourhoodMixer,
    QKVProjection,
    RALAMixer,
    RALAttention,
    RotarySoftmaxAttention,
    S3AMixer,
    SECAttention,
    SECMixer,
    SparseScanAttention,
    TokenMixer,
)
from mmeffvit.layers.norm import LayerNorm2d
from mmeffvit.layers.scale import LayerScale2d
from mmeffvit.layers.stem import ConvDownsample, ConvStem

__all__ = [
    "MLP",
    "Block",
    "Context",
    "ConvDownsample",
    "ConvFFN",
    "ConvStem",
    "CrossShapedAttention",
    "CrossShapedMixer",
    "DepthwiseConv2d",
    "DropPath",
    "GatedSoftmaxMixer",
    "LayerNorm2d",
    "LayerScale2d",
    "MaSAMixer",
    "ManhattanAttention",
    "MapContext",
    "NeighbourhoodAttention",
    "NeighbourhoodMixer",
    "QKVProjection",
    "RALAMixer",
    "RALAttention",
    "RotarySoftmaxAttention",
    "S3AMixer",
    "SECAttention",
    "SECMixer",
    "SparseScanAttention",
    "TokenMixer",
]


def __getattr__(name: str):
    if name in ("LePEAttention", "RotaryLePEAttention"):
        from mmeffvit.layers.mixers import legacy

        return getattr(legacy, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
