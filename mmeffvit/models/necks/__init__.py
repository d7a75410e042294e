"""Necks that the toolboxes lack."""

from mmeffvit.models.necks.plain_to_pyramid import PlainToPyramid
from mmeffvit.models.necks.resize import ResizeToStrides

__all__ = ["PlainToPyramid", "ResizeToStrides"]
