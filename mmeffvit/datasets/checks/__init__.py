"""Checks of what is in the files of a data set, before anything is trained on them.

Functions over files, a module per layout; no toolbox is needed. Each returns `Finding`s, all that
it has seen and not only the first. `mmeffvit.engine.preflight` calls them for a config.
"""

from mmeffvit.datasets.checks.coco import check_coco
from mmeffvit.datasets.checks.findings import Finding
from mmeffvit.datasets.checks.folders import check_class_folders, check_class_list
from mmeffvit.datasets.checks.images import SUFFIXES
from mmeffvit.datasets.checks.label_maps import check_label_maps, list_label_maps
from mmeffvit.datasets.checks.names import check_names
from mmeffvit.datasets.checks.points import check_kitti, check_rooms, check_waymo

__all__ = [
    "SUFFIXES",
    "Finding",
    "check_class_folders",
    "check_class_list",
    "check_coco",
    "check_kitti",
    "check_label_maps",
    "check_names",
    "check_rooms",
    "check_waymo",
    "list_label_maps",
]
