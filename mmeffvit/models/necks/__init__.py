"""Necks that the toolboxes lack."""

from mmeffvit.models.necks.cross_scale_attention import CrossScaleAttention
from mmeffvit.models.necks.plain_to_pyramid import PlainToPyramid
from mmeffvit.models.necks.resize import ResizeToStrides

__all__ = ["CrossScaleAttention", "PlainToPyramid", "ResizeToStrides"]
