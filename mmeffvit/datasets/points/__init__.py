"""Point clouds: data sets of rooms and sweeps, and the transforms of their pipelines.

Importing this module registers them; mmengine, numpy and torch are enough.
"""

from mmeffvit.datasets.points.base import POINT_KEYS, PointTransform, select_points
from mmeffvit.datasets.points.rooms.datasets import (
    RoomDataset,
    S3DISRoomDataset,
    ScanNetRoomDataset,
)
from mmeffvit.datasets.points.rooms.files import LoadRoomFromFile, RoomFileError
from mmeffvit.datasets.points.sweeps.filters import (
    CameraViewFilter,
    ObjectPointsFilter,
    ObjectRangeFilter,
    PointsRangeFilter,
)
from mmeffvit.datasets.points.sweeps.kitti import KittiSweepDataset
from mmeffvit.datasets.points.sweeps.loading import (
    LoadPointsFromFile,
    LoadPointsFromMultiSweeps,
)
from mmeffvit.datasets.points.sweeps.object_sample import ObjectSample, build_object_database
from mmeffvit.datasets.points.sweeps.waymo import WaymoSweepDataset
from mmeffvit.datasets.points.transforms.color import (
    ChromaticAutoContrast,
    ChromaticJitter,
    ChromaticTranslation,
    NormalizePointsColor,
    RandomDropPointsColor,
)
from mmeffvit.datasets.points.transforms.fragments import Fragments, TestTimeFragments
from mmeffvit.datasets.points.transforms.geometry import (
    CenterShift,
    ElasticDistortion,
    GlobalRotScaleTrans,
    PositiveShift,
    RandomFlip3D,
    RandomJitterPoints,
)
from mmeffvit.datasets.points.transforms.pack import PackPointInputs
from mmeffvit.datasets.points.transforms.sampling import (
    GridSample,
    PointShuffle,
    RandomDropPoints,
    SphereCrop,
)

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
    "RoomDataset",
    "RoomFileError",
    "S3DISRoomDataset",
    "ScanNetRoomDataset",
    "SphereCrop",
    "TestTimeFragments",
    "WaymoSweepDataset",
    "build_object_database",
    "select_points",
]
