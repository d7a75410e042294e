"""Furnished rooms of simple solids, and scans of them in S3DIS's layout."""

from mmeffvit.demo_data.rooms.scans import ensure_rooms

__all__ = ["ensure_rooms"]
