"""Modules that two or more networks share."""

from mmeffvit.layers.block import Block
from mmeffvit.layers.context import Context, MapContext
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.drop_path import DropPath
from mmeffvit.layers.ffn import MLP, ConvFFN, GatedConvFFN, MixFFN
from mmeffvit.layers.mixers import (
    CrossScaleMixer,
    CrossShapedAttention,
    CrossShapedMixer,
    DeformableAttention,
    DeformableMixer,
    FactorizationMixer,
    FusionMixer,
    GatedConvMixer,
    GatedSoftmaxMixer,
    GaussianMixtureMixer,
    GroupAttention,
    GroupedAttention,
    GroupLatentMixer,
    GroupMixer,
    LinearAttention,
    LocalConvMixer,
    ManhattanAttention,
    MaSAMixer,
    MSAConvMixer,
    NeighbourhoodAttention,
    NeighbourhoodMixer,
    PolylineAttention,
    PolylineMixer,
    PooledAttention,
    PooledMixer,
    QKVProjection,
    RALAMixer,
    RALAttention,
    RELAMixer,
    RelativeAttention,
    RotarySoftmaxAttention,
    S3AMixer,
    ScatterMixer,
    SECAttention,
    SECMixer,
    SharedLePEMixer,
    SoftmaxAttention,
    SoftmaxMixer,
    SparseScanAttention,
    TokenMixer,
    URPEMixer,
)
from mmeffvit.layers.norm import LayerNorm2d
from mmeffvit.layers.position_table import FuzzyPositionTable, PositionTable
from mmeffvit.layers.scale import LayerScale2d
from mmeffvit.layers.stem import ConvDownsample, ConvStem

__all__ = [
    "MLP",
    "Block",
    "Context",
    "ConvDownsample",
    "ConvFFN",
    "ConvStem",
    "CrossScaleMixer",
    "CrossShapedAttention",
    "CrossShapedMixer",
    "DeformableAttention",
    "DeformableMixer",
    "DepthwiseConv2d",
    "DropPath",
    "FactorizationMixer",
    "FusionMixer",
    "FuzzyPositionTable",
    "GatedConvFFN",
    "GatedConvMixer",
    "GatedSoftmaxMixer",
    "GaussianMixtureMixer",
    "GroupAttention",
    "GroupLatentMixer",
    "GroupMixer",
    "GroupedAttention",
    "LayerNorm2d",
    "LayerScale2d",
    "LinearAttention",
    "LocalConvMixer",
    "MSAConvMixer",
    "MaSAMixer",
    "ManhattanAttention",
    "MapContext",
    "MixFFN",
    "NeighbourhoodAttention",
    "NeighbourhoodMixer",
    "PolylineAttention",
    "PolylineMixer",
    "PooledAttention",
    "PooledMixer",
    "PositionTable",
    "QKVProjection",
    "RALAMixer",
    "RALAttention",
    "RELAMixer",
    "RelativeAttention",
    "RotarySoftmaxAttention",
    "S3AMixer",
    "SECAttention",
    "SECMixer",
    "ScatterMixer",
    "SharedLePEMixer",
    "SoftmaxAttention",
    "SoftmaxMixer",
    "SparseScanAttention",
    "TokenMixer",
    "URPEMixer",
]


def __getattr__(name: str):
    if name in ("LePEAttention", "RotaryLePEAttention"):
        from mmeffvit.layers.mixers import legacy

        return getattr(legacy, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
