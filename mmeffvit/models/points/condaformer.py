"""Moved to `mmeffvit.models.points.backbones`; the old place goes in the next release."""

from mmeffvit.compat.moved import moved_names

__getattr__ = moved_names(__name__, {"mmeffvit.models.points.backbones": ["ConDaFormer"]})
