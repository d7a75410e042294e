"""Modules that point networks share. N points, C channels."""

from mmeffvit.layers.points.level import PointLevel
from mmeffvit.layers.points.mixers import LocalStructure, PointMixer, TriPlaneMixer
from mmeffvit.layers.points.sparse_conv import DepthwiseSubMConv3d, SubMConv3d

__all__ = [
    "DepthwiseSubMConv3d",
    "LocalStructure",
    "PointLevel",
    "PointMixer",
    "SubMConv3d",
    "TriPlaneMixer",
]
