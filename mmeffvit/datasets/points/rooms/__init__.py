"""Rooms, one file each, for semantic segmentation: S3DIS, ScanNet, and others in their layouts."""

from mmeffvit.compat.moved import moved_names

__getattr__ = moved_names(
    __name__, {"mmeffvit.demo_data.rooms.scans": ["ensure_rooms", "make_room"]}
)
