"""Point clouds: data sets of rooms and sweeps, and the transforms of their pipelines.

Importing this module registers them; mmengine, numpy and torch are enough.
"""

from mmeffvit.datasets.points.base import POINT_KEYS, PointTransform, select_points
from mmeffvit.datasets.points.color import (
    ChromaticAutoContrast,
    ChromaticJitter,
    ChromaticTranslation,
    NormalizePointsColor,
    RandomDropPointsColor,
)
from mmeffvit.datasets.points.fragments import Fragments, TestTimeFragments
from mmeffvit.datasets.points.geometry import (
    CenterShift,
    ElasticDistortion,
    GlobalRotScaleTrans,
    PositiveShift,
    RandomFlip3D,
    RandomJitterPoints,
)
from mmeffvit.datasets.points.kitti import KittiSweepDataset
from mmeffvit.datasets.points.object_sample import ObjectSample, build_object_database
from mmeffvit.datasets.points.pack import PackPointInputs
from mmeffvit.datasets.points.room_dataset import S3DISRoomDataset, ScanNetRoomDataset
from mmeffvit.datasets.points.room_file import LoadRoomFromFile, RoomFileError
from mmeffvit.datasets.points.sampling import (
    GridSample,
    PointShuffle,
    RandomDropPoints,
    SphereCrop,
)
from mmeffvit.datasets.points.sweep_filters import (
    ObjectPointsFilter,
    ObjectRangeFilter,
    PointsRangeFilter,
)
from mmeffvit.datasets.points.sweep_loading import (
    CameraViewFilter,
    LoadPointsFromFile,
    LoadPointsFromMultiSweeps,
)
from mmeffvit.datasets.points.waymo import WaymoSweepDataset

__all__ = [
    "POINT_KEYS",
    "CameraViewFilter",
    "CenterShift",
    "ChromaticAutoContrast",
    "ChromaticJitter",
    "ChromaticTranslation",
    "ElasticDistortion",
    "Fragments",
    "GlobalRotScaleTrans",
    "GridSample",
    "KittiSweepDataset",
    "LoadPointsFromFile",
    "LoadPointsFromMultiSweeps",
    "LoadRoomFromFile",
    "NormalizePointsColor",
    "ObjectPointsFilter",
    "ObjectRangeFilter",
    "ObjectSample",
    "PackPointInputs",
    "PointShuffle",
    "PointTransform",
    "PointsRangeFilter",
    "PositiveShift",
    "RandomDropPoints",
    "RandomDropPointsColor",
    "RandomFlip3D",
    "RandomJitterPoints",
    "RoomFileError",
    "S3DISRoomDataset",
    "ScanNetRoomDataset",
    "SphereCrop",
    "TestTimeFragments",
    "WaymoSweepDataset",
    "build_object_database",
    "select_points",
]
