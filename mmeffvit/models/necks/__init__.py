"""Necks that the toolboxes lack."""

from mmeffvit.models.necks.resize import ResizeToStrides

__all__ = ["ResizeToStrides"]
