"""Necks of networks of points."""

from mmeffvit.models.points.necks.second_fpn import SECONDFPN

__all__ = ["SECONDFPN"]
