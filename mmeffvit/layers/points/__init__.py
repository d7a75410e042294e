"""Modules that point networks share. N points, C channels."""

from mmeffvit.layers.points.attention import (
    PointAttention,
    PointGatedSoftmaxMixer,
    PointRALAMixer,
    PointSECMixer,
)
from mmeffvit.layers.points.block import PointBlock
from mmeffvit.layers.points.level import PointLevel
from mmeffvit.layers.points.mixers import LocalStructure, PointMixer, TriPlaneMixer
from mmeffvit.layers.points.resampling import GridPool, Unpool
from mmeffvit.layers.points.sparse_conv import DepthwiseSubMConv3d, SubMConv3d

__all__ = [
    "DepthwiseSubMConv3d",
    "GridPool",
    "LocalStructure",
    "PointAttention",
    "PointBlock",
    "PointGatedSoftmaxMixer",
    "PointLevel",
    "PointMixer",
    "PointRALAMixer",
    "PointSECMixer",
    "SubMConv3d",
    "TriPlaneMixer",
    "Unpool",
]
