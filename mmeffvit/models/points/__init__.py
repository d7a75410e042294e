"""Networks of point clouds. Importing this module registers them; torch and mmengine are enough."""

from mmeffvit.models.points.base import BasePointBackbone
from mmeffvit.models.points.condaformer import ConDaFormer
from mmeffvit.models.points.flatformer import FlatFormer
from mmeffvit.models.points.segmentation import PointSegmentationNet, raw_point_rows
from mmeffvit.models.points.voxel_encoder import DynamicVFE

__all__ = [
    "BasePointBackbone",
    "ConDaFormer",
    "DynamicVFE",
    "FlatFormer",
    "PointSegmentationNet",
    "raw_point_rows",
]
