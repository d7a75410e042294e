"""Heads of networks of points."""

from mmeffvit.models.points.heads.center_head import CenterHead
from mmeffvit.models.points.heads.seg_head import PointSegHead
from mmeffvit.ops.points import boxes_from_mmdet3d_v0

__all__ = ["CenterHead", "PointSegHead", "boxes_from_mmdet3d_v0"]
