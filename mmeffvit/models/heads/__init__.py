"""Heads that the toolboxes lack."""

from mmeffvit.models.heads.conv_cls_head import ConvClsHead

__all__ = ["ConvClsHead"]
