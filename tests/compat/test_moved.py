"""Names of former releases are found, with a warning that says where they are now."""

from importlib import import_module

import pytest

from mmeffvit.compat.moved import moved_names

MOVED = [
    ("mmeffvit.models.points.condaformer", "ConDaFormer", "mmeffvit.models.points.backbones"),
    ("mmeffvit.models.points.flatformer", "FlatFormer", "mmeffvit.models.points.backbones"),
    ("mmeffvit.models.points.structures", "PointDataSample", "mmeffvit.structures"),
    ("mmeffvit.datasets", "ensure_digits", "mmeffvit.demo_data.digits"),
    ("mmeffvit.datasets", "DIGITS_METAINFO", "mmeffvit.demo_data.digits"),
    ("mmeffvit.datasets.digits", "write_digits", "mmeffvit.demo_data.digits"),
    ("mmeffvit.datasets.folders", "ensure_folder", "mmeffvit.demo_data.folders"),
    ("mmeffvit.datasets.coco", "DigitsDataset", "mmeffvit.demo_data.digits.detection"),
    ("mmeffvit.datasets.ade", "DigitsSegDataset", "mmeffvit.demo_data.digits.segmentation"),
    ("mmeffvit.datasets.imagenet", "DigitsClsDataset", "mmeffvit.demo_data.digits.classification"),
    ("mmeffvit.datasets.points.rooms", "ensure_rooms", "mmeffvit.demo_data.rooms.scans"),
    ("mmeffvit.datasets.points.sweeps", "ensure_sweeps", "mmeffvit.demo_data.streets.sweeps"),
]


@pytest.mark.parametrize(("old", "name", "new"), MOVED)
def test_old_places(old, name, new):
    with pytest.warns(DeprecationWarning, match=rf"{old}\.{name} has moved to {new};"):
        found = getattr(import_module(old), name)
    assert found is getattr(import_module(new), name)


def test_other_names_are_missing():
    find = moved_names("package.old", {"package.new": ["thing"]})
    with pytest.raises(AttributeError, match=r"module 'package\.old' has no attribute 'other'"):
        find("other")
