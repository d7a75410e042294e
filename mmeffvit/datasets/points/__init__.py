"""Point clouds: data sets of rooms and sweeps, and the transforms of their pipelines.

Importing this module registers them; mmengine, numpy and torch are enough.
"""

from mmeffvit.datasets.points.base import POINT_KEYS, PointTransform, select_points
from mmeffvit.datasets.points.geometry import (
    CenterShift,
    ElasticDistortion,
    GlobalRotScaleTrans,
    PositiveShift,
    RandomFlip3D,
    RandomJitterPoints,
)
from mmeffvit.datasets.points.pack import PackPointInputs
from mmeffvit.datasets.points.sampling import (
    GridSample,
    PointShuffle,
    RandomDropPoints,
    SphereCrop,
)

__all__ = [
    "POINT_KEYS",
    "CenterShift",
    "ElasticDistortion",
    "GlobalRotScaleTrans",
    "GridSample",
    "PackPointInputs",
    "PointShuffle",
    "PointTransform",
    "PositiveShift",
    "RandomDropPoints",
    "RandomFlip3D",
    "RandomJitterPoints",
    "SphereCrop",
    "select_points",
]
