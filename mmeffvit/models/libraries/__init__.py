"""Backbones of other libraries, none of which is imported before it is asked for."""

from mmeffvit.models.libraries.backbone import LibraryBackbone
from mmeffvit.models.libraries.base import Statistics
from mmeffvit.models.libraries.comer import ViTCoMerAdapter
from mmeffvit.models.libraries.names import split_library

__all__ = ["LibraryBackbone", "Statistics", "ViTCoMerAdapter", "split_library"]
