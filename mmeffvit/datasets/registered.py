"""Registers the data sets of those toolboxes that are installed."""

from importlib import import_module
from importlib.util import find_spec

_TOOLBOXES = {"mmdet": "coco", "mmseg": "ade", "mmpretrain": "imagenet"}

for _toolbox, _module in _TOOLBOXES.items():
    if find_spec(_toolbox) is not None:
        import_module(f"mmeffvit.datasets.{_module}")
