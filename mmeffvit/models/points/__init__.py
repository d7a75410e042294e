"""Networks of point clouds. Importing this module registers them; torch and mmengine are enough."""

from mmeffvit.models.points.base import BasePointBackbone
from mmeffvit.models.points.condaformer import ConDaFormer
from mmeffvit.models.points.segmentation import PointSegmentationNet, raw_point_rows

__all__ = [
    "BasePointBackbone",
    "ConDaFormer",
    "PointSegmentationNet",
    "raw_point_rows",
]
