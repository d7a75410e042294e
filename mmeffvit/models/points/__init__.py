"""Networks of point clouds. Importing this module registers them; torch and mmengine are enough."""

from mmeffvit.models.points.base import BasePointBackbone
from mmeffvit.models.points.center_head import CenterHead, boxes_from_mmdet3d_v0
from mmeffvit.models.points.condaformer import ConDaFormer
from mmeffvit.models.points.data_preprocessor import PointDataPreprocessor
from mmeffvit.models.points.detector import PointDetector
from mmeffvit.models.points.flatformer import FlatFormer
from mmeffvit.models.points.second import SECOND, SECONDFPN
from mmeffvit.models.points.segmentor import PointSegHead, PointSegmentor, raw_point_rows
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
    "PointDataPreprocessor",
    "PointDataSample",
    "PointDetector",
    "PointSegHead",
    "PointSegmentor",
    "boxes_from_mmdet3d_v0",
    "raw_point_rows",
]
