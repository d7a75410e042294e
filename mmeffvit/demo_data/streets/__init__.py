"""Streets of simple solids, and LiDAR sweeps of them in KITTI's layout."""

from mmeffvit.demo_data.streets.sweeps import ensure_sweeps

__all__ = ["ensure_sweeps"]
