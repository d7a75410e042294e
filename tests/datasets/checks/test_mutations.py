"""Whatever happens to a data set: an error that names the cause, or labels that are right.

There is no third way: no traceback without a cause, and no success with wrong labels.
"""

import re
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mmeffvit.engine.preflight import find_problems
from tests.datasets.checks import mutations, sets
from tests.datasets.checks.mutations import MUTATIONS


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A valid set of every layout."""
    roots = {}
    for layout, (write, _) in sets.LAYOUTS.items():
        roots[layout] = tmp_path_factory.mktemp(layout.replace(" ", "_"))
        write(roots[layout])
    return roots


@pytest.mark.parametrize("layout", sets.LAYOUTS)
def test_valid_sets_pass(layout, originals):
    cfg = sets.LAYOUTS[layout][1](originals[layout])
    assert find_problems(cfg, ("train", "val")) == []
    assert sets.wrong_labels(layout, cfg) == []


def test_there_are_enough_of_them():
    assert len(MUTATIONS) >= 150
    assert len({str(mutation) for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_mutation(mutation, originals, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(originals[mutation.layout], root)
    cfg = sets.LAYOUTS[mutation.layout][1](root)
    mutation.apply(root, cfg)
    found = find_problems(cfg, ("train", "val"))
    assert not any("could not be checked" in finding.what for finding in found), found
    errors = [str(finding) for finding in found if finding.level == "error"]
    warnings = [str(finding) for finding in found if finding.level == "warning"]
    if mutation.level == "error":
        assert any(re.search(mutation.words, text) for text in errors), (errors, warnings)
        return
    assert errors == []
    if mutation.level == "warning":
        assert any(re.search(mutation.words, text) for text in warnings), warnings
    assert sets.wrong_labels(mutation.layout, cfg) == []


# -- the net itself: what no check can know is seen in the labels ----------------------------------


def _swap_in(path, first, second):
    text = path.read_text()
    path.write_text(text.replace(first, "\0").replace(second, first).replace("\0", second))


def _swap_labels(root, cfg):
    for path in sets.files(root, "labels/train/*.png"):
        labels = np.array(Image.open(path))
        Image.fromarray(np.choose(labels, (0, 2, 1)).astype(np.uint8)).save(path)


def _swap_folders(root, cfg):
    (root / "train/apple").rename(root / "train/other")
    (root / "train/berry").rename(root / "train/apple")
    (root / "train/other").rename(root / "train/berry")


def _swap_in_rooms(root, cfg):
    mutations.refurnish(lambda room: room.update(semantic_gt=1 - room["semantic_gt"]))(root, cfg)


LIES = {
    "coco": lambda root, cfg: _swap_in(
        root / "annotations/train.json", '"category_id": 3,', '"category_id": 7,'
    ),
    "label maps": _swap_labels,
    "folders": _swap_folders,
    "kitti": lambda root, cfg: [
        _swap_in(path, "Car ", "Pedestrian ") for path in sets.files(root, "training/label_2/*")
    ],
    "waymo": lambda root, cfg: _swap_in(root / "train.json", '"Car"', '"Pedestrian"'),
    "rooms": _swap_in_rooms,
}


@pytest.mark.parametrize("layout", sets.LAYOUTS)
def test_wrong_labels_are_seen(layout, originals, tmp_path):
    """Two classes change places in the files: valid to any check, and yet a mutation would fail."""
    root = tmp_path / "data"
    shutil.copytree(originals[layout], root)
    cfg = sets.LAYOUTS[layout][1](root)
    LIES[layout](root, cfg)
    assert [f for f in find_problems(cfg, ("train",)) if f.level == "error"] == []
    assert sets.wrong_labels(layout, cfg)


def test_every_kind_of_file_is_spoilt():
    """Annotation files, images, label maps and files of points, more than a hundred in all."""
    counts = Counter(mutation.layout for mutation in MUTATIONS)
    assert set(counts) == set(sets.LAYOUTS)
    assert all(count >= 10 for count in counts.values()), counts
    spoilt = {"train.json", "*.jpg", "*.png", "*.txt", "*.pth"}
    names = {str(m).split(": ")[1].split(" is ")[0].rpartition("/")[2] for m in MUTATIONS}
    assert spoilt <= names
