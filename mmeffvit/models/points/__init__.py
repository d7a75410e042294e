"""Networks of point clouds. Importing this module registers them; torch and mmengine are enough.

- ``backbones/``, ``necks/``, ``heads/``: the parts, ``voxel_encoder.py`` what comes before them
- ``detector.py``, ``segmentor.py``: whole models, ``data_preprocessor.py`` what feeds them
- ``mmdet3d.py``: the networks inside of mmdet3d
"""

from mmeffvit.models.points.backbones import SECOND, BasePointBackbone, ConDaFormer, FlatFormer
from mmeffvit.models.points.data_preprocessor import PointDataPreprocessor
from mmeffvit.models.points.detector import PointDetector
from mmeffvit.models.points.heads import CenterHead, PointSegHead, boxes_from_mmdet3d_v0
from mmeffvit.models.points.necks import SECONDFPN
from mmeffvit.models.points.segmentor import PointSegmentor, raw_point_rows
from mmeffvit.models.points.voxel_encoder import DynamicVFE
from mmeffvit.structures import PointData, PointDataSample

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
