"""Filters of sweeps, and objects pasted from other sweeps."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mmeffvit.datasets.points import build_object_database
from mmeffvit.datasets.points.sweeps.filters import inside_boxes
from mmeffvit.ops.points import rotated_overlap
from mmeffvit.registry import TRANSFORMS

CLASSES = ("Car", "Pedestrian", "Cyclist")


def build(kind, **kwargs):
    return TRANSFORMS.build({"type": f"mmeffvit.{kind}", **kwargs})


def sweep(boxes, labels, points, first=0):
    coord = np.array(points, np.float32).reshape(-1, 3)
    return {
        "coord": coord,
        "intensity": np.arange(first, first + len(coord), dtype=np.float32)[:, None],
        "gt_bboxes_3d": np.array(boxes, np.float32).reshape(-1, 7),
        "gt_labels_3d": np.array(labels, np.int64),
    }


def car(x, y=0.0, yaw=0.0):
    return [x, y, -1.5, 4, 2, 1.5, yaw]


def test_range_filters():
    points = [[0, 0, 0], [9.9, 0, 0], [10, 0, 0], [0, -10, 0], [0, 0, -2], [0, 0, 3.9]]
    results = sweep([car(0), car(9.9), car(10.1), car(0, -11)], [0, 1, 2, 0], points)
    limits = [-10, -10, -2, 10, 10, 4]
    results = build("PointsRangeFilter", point_cloud_range=limits)(results)
    assert results["intensity"][:, 0].tolist() == [0, 1, 5]
    results = build("ObjectRangeFilter", point_cloud_range=limits)(results)
    assert results["gt_labels_3d"].tolist() == [0, 1]
    assert len(results["gt_bboxes_3d"]) == 2
    for bad in ([0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]):
        with pytest.raises(ValueError, match=r"must be \(x, y, z, x, y, z\), lowest first"):
            build("PointsRangeFilter", point_cloud_range=bad)


def test_objects_with_few_points():
    points = [[0, 0, -1.4], [1, 0, -0.1], [1, 0, 0.1], [20, 0, -1]]
    results = sweep([car(0), car(20), car(40)], [0, 1, 2], points)
    truth = {"gt_bboxes_3d": np.array([car(40), car(0)]), "gt_ignore": np.array([False, True])}
    results["eval_ann_info"] = truth
    results = build("ObjectPointsFilter", min_points=2)(results)
    assert results["gt_labels_3d"].tolist() == [0]
    assert results["eval_ann_info"]["gt_ignore"].tolist() == [True, True]
    assert truth["gt_ignore"].tolist() == [False, True]  # that of the data set


class Sweeps(list):
    metainfo = {"classes": CLASSES}  # noqa: RUF012


@pytest.fixture
def database(tmp_path):
    """Cars at x = 0 with 3 points and x = 50 with 1; a pedestrian at x = 10 with 2."""
    walker = [10, 0, 0, 0.8, 0.8, 1.8, 0]
    sweeps = Sweeps(
        [
            sweep([car(0), walker, car(70)], [0, 1, 0], [[0, 0, -1], [10, 0, 1], [1, 0, -1]]),
            sweep([], [], [[0, 0, 0]]),
            sweep([car(50)], [0], [[50, 0, -1], [80, 0, 0]], first=100),
        ]
    )
    sweeps[0]["coord"] = np.append(sweeps[0]["coord"], [[0, 1, -1], [10, 0, 1.5]], 0)
    sweeps[0]["coord"] = sweeps[0]["coord"].astype(np.float32)
    sweeps[0]["intensity"] = np.arange(5, dtype=np.float32)[:, None]
    path = tmp_path / "objects.safetensors"
    assert build_object_database(sweeps, path) == 3
    return path


def sampler(path, groups, **kwargs):
    return build(
        "ObjectSample", info_path=str(path), classes=CLASSES, sample_groups=groups, **kwargs
    )


def test_database_holds_the_points_of_objects(database):
    tensors = load_file(database)
    assert tensors["ends"].tolist() == [3, 5, 6]
    assert tensors["labels"].tolist() == [0, 1, 0]
    assert tensors["points.intensity"][:, 0].tolist() == [0, 2, 3, 1, 4, 100]
    assert tensors["points.coord"].shape == (6, 3)
    assert tensors["boxes"][:, 0].tolist() == [0, 10, 50]
    assert [path.name for path in database.parent.iterdir()] == [database.name]


def test_objects_are_pasted_with_their_points(database):
    # one point where a car will be, one above it, one elsewhere
    results = sweep([car(30)], [0], [[1, 0.5, -1], [1, 0.5, 1], [30, 0, -1]], first=200)
    results = sampler(database, {"Car": 3, "Pedestrian": 1})(results)
    assert sorted(results["gt_labels_3d"].tolist()) == [0, 0, 0, 1]
    assert results["gt_bboxes_3d"][0].tolist() == car(30)
    assert sorted(results["gt_bboxes_3d"][:, 0].tolist()) == [0, 10, 30, 50]
    assert sorted(results["intensity"][:, 0].tolist()) == [0, 1, 2, 3, 4, 100, 201, 202]
    inside = inside_boxes(results["coord"], results["gt_bboxes_3d"])
    counts = dict(zip(results["gt_bboxes_3d"][:, 0].tolist(), inside.sum(0).tolist()))
    assert counts == {0: 3, 10: 2, 30: 1, 50: 1}


def test_classes_are_filled_up_to_their_number(database):
    np.random.seed(0)  # noqa: NPY002
    there = [car(30), car(100)]
    one_more = [
        sampler(database, {"Car": 3})(sweep(there, [0, 0], [[0, 0, 5]]))["gt_bboxes_3d"][2, 0]
        for _ in range(20)
    ]
    assert set(one_more) == {0, 50}
    none = sampler(database, {"Car": 2})(sweep(there, [0, 0], [[0, 0, 5]]))
    assert len(none["gt_labels_3d"]) == 2
    # of those with enough points
    some = sampler(database, {"Car": 4}, min_points={"Car": 2})(sweep(there, [0, 0], [[0, 0, 5]]))
    assert some["gt_bboxes_3d"][2:, 0].tolist() == [0]
    # labels are those of the sweeps
    other = build(
        "ObjectSample", info_path=str(database), classes=CLASSES[::-1], sample_groups={"Car": 1}
    )(sweep([], [], [[0, 0, 5]]))
    assert other["gt_labels_3d"].tolist() == [2]


def test_nothing_is_pasted_onto_something(database):
    # diagonal cars next to x = 0: boxes meet only if their angle is looked at
    clash = sweep([car(2.5, 1.6, np.pi / 4)], [2], [[0, 0, 5]])
    beside = sweep([car(2.5, 1.6, 0.0) + np.array([1.6, 0, 0, 0, 0, 0, 0])], [2], [[0, 0, 5]])
    clash, beside = (sampler(database, {"Car": 2})(s) for s in (clash, beside))
    assert sorted(clash["gt_bboxes_3d"][1:, 0].tolist()) == [50]
    assert sorted(beside["gt_bboxes_3d"][1:, 0].tolist()) == [0, 50]


def test_pasted_objects_do_not_overlap_each_other(tmp_path):
    random = np.random.default_rng(0)
    boxes = np.array([car(*random.uniform(-8, 8, 2), random.uniform(-3, 3)) for _ in range(40)])
    sweeps = Sweeps([sweep([box], [0], [box[:3] + [0, 0, 0.5]]) for box in boxes])
    build_object_database(sweeps, tmp_path / "cars.safetensors")
    results = sweep([car(0)], [0], [[0, 0, 5]])
    results = sampler(tmp_path / "cars.safetensors", {"Car": 40})(results)
    boxes = torch.from_numpy(results["gt_bboxes_3d"])[:, [0, 1, 3, 4, 6]]
    number = len(boxes)
    assert 5 < number < 25
    first, second = torch.triu_indices(number, number, 1)
    assert rotated_overlap(boxes[first], boxes[second]).max() < 1e-5
    assert len(results["coord"]) == number  # a point each, and that of the sweep


def test_sampler_goes_to_other_processes(database):
    transform = pickle.loads(pickle.dumps(sampler(database, {"Car": 2})))
    assert len(transform(sweep([], [], [[0, 0, 5]]))["gt_labels_3d"]) == 2
    assert "sample_groups={'Car': 2}" in repr(transform)


def test_sampler_errors(database, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.safetensors is missing; .* by tools"):
        sampler(tmp_path / "none.safetensors", {"Car": 1})
    with pytest.raises(ValueError, match=r"\['Tram'\] are no classes"):
        sampler(database, {"Tram": 1})
    with pytest.raises(ValueError, match=r"must be a \.safetensors file"):
        build_object_database(Sweeps(), tmp_path / "objects.pkl")
    with pytest.raises(ValueError, match="no object of 0 sweeps has 1 points"):
        build_object_database(Sweeps(), tmp_path / "empty.safetensors")
    assert not (tmp_path / "empty.safetensors").exists()
    results = {**sweep([], [], [[0, 0, 5]]), "time": np.zeros((1, 1), np.float32)}
    with pytest.raises(ValueError, match="has no time, which the points of a sweep have"):
        sampler(database, {"Car": 1})(results)
    save_file({"weights": torch.ones(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"is not an object database, it has \['weights'\]"):
        sampler(tmp_path / "weights.safetensors", {"Car": 1})
    database.write_bytes(database.read_bytes()[:-7])
    with pytest.raises(ValueError, match="is damaged"):
        sampler(database, {"Car": 1})
