"""Heads of networks of points."""

from mmeffvit.models.points.heads.center_head import CenterHead, boxes_from_mmdet3d_v0
from mmeffvit.models.points.heads.seg_head import PointSegHead

__all__ = ["CenterHead", "PointSegHead", "boxes_from_mmdet3d_v0"]
