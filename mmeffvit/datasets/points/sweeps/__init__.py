"""LiDAR sweeps for the detection of objects: KITTI, Waymo, and what their pipelines need."""

from mmeffvit.compat.moved import moved_names

__getattr__ = moved_names(
    __name__, {"mmeffvit.demo_data.streets.sweeps": ["ensure_sweeps", "make_sweep"]}
)
