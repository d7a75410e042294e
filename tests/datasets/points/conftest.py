"""The same random numbers in every test, and rooms on disk."""

# ruff: noqa: NPY002 (the global generator is the one that transforms draw from)

import numpy as np
import pytest
import torch

from tests.datasets.points.clouds import make_room


@pytest.fixture(autouse=True)
def _same_numbers():
    np.random.seed(0)


@pytest.fixture(scope="session")
def room_root(tmp_path_factory):
    """Six areas of S3DIS and three splits of ScanNet, a room in each and two in Area_1."""
    root = tmp_path_factory.mktemp("rooms")
    names = [f"Area_{area}/office_1.pth" for area in range(1, 7)] + ["Area_1/hall_1.pth"]
    for seed, name in enumerate([*names, "train/a.pth", "val/b.pth"]):
        (root / name).parent.mkdir(exist_ok=True)
        torch.save(make_room(seed=seed), root / name)
    unlabelled = {k: v for k, v in make_room(seed=20).items() if not k.startswith("sem")}
    (root / "test").mkdir()
    torch.save(unlabelled, root / "test/c.pth")
    return root
