"""Moved to `mmeffvit.structures`; the old place goes in the next release."""

from mmeffvit.compat.moved import moved_names

__getattr__ = moved_names(__name__, {"mmeffvit.structures": ["PointData", "PointDataSample"]})
