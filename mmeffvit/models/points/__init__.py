"""Networks of point clouds. Importing this module registers them; torch and mmengine are enough."""

from mmeffvit.models.points.base import BasePointBackbone
from mmeffvit.models.points.center_head import CenterHead, boxes_from_mmdet3d_v0
from mmeffvit.models.points.condaformer import ConDaFormer
from mmeffvit.models.points.detection import PointDetectionNet
from mmeffvit.models.points.flatformer import FlatFormer
from mmeffvit.models.points.second import SECOND, SECONDFPN
from mmeffvit.models.points.segmentation import PointSegmentationNet, raw_point_rows
from mmeffvit.models.points.structures import PointData, PointDataSample
from mmeffvit.models.points.voxel_encoder import DynamicVFE

__all__ = [
    "SECOND",
    "SECONDFPN",
    "BasePointBackbone",
    "CenterHead",
    "ConDaFormer",
    "DynamicVFE",
    "FlatFormer",
    "PointData",
    "PointDataSample",
    "PointDetectionNet",
    "PointSegmentationNet",
    "boxes_from_mmdet3d_v0",
    "raw_point_rows",
]
