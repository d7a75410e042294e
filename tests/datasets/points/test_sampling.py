"""Choosing points: one per voxel against a dict of lists, crops against a full sort."""

# ruff: noqa: NPY002 (the global generator is the one that transforms draw from)

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS

from mmeffvit.datasets.points import POINT_KEYS, select_points
from tests.datasets.points.clouds import make_cloud


def build(name, **kwargs):
    return TRANSFORMS.build({"type": f"mmeffvit.{name}", **kwargs})


def voxels_by_loop(coord, size):
    """Cell, counted from the lowest -> rows of its points."""
    cells = [tuple(int(np.floor(float(c) / size)) for c in point) for point in coord]
    low = np.min(cells, axis=0)
    voxels = {}
    for row, cell in enumerate(cells):
        voxels.setdefault(tuple(np.subtract(cell, low).tolist()), []).append(row)
    return voxels


def test_voxels_and_their_first_points():
    cloud = make_cloud(500)
    cloud["coord"] = np.concatenate((cloud["coord"], cloud["coord"][:50])) - 3  # some twice
    for key in ("color", "normal", "pts_semantic_mask", "pts_instance_mask"):
        cloud[key] = np.concatenate((cloud[key], cloud[key][50:100]))
    expected = voxels_by_loop(cloud["coord"], 0.2)
    found = build("GridSample", voxel_size=0.2, mode="val")(dict(cloud))
    assert [tuple(cell) for cell in found["grid_coord"].tolist()] == sorted(expected)
    first = [expected[cell][0] for cell in sorted(expected)]
    for key in ("coord", "color", "normal", "pts_semantic_mask", "pts_instance_mask"):
        assert (found[key] == cloud[key][first]).all()
    assert (found["raw_semantic_mask"] == cloud["pts_semantic_mask"]).all()
    for row, voxel in enumerate(found["point2voxel_map"]):
        assert row in expected[tuple(found["grid_coord"][voxel].tolist())]


def test_training_takes_any_point_of_each_voxel():
    cloud = make_cloud(60)
    expected = voxels_by_loop(cloud["coord"], 0.8)
    sample = build("GridSample", voxel_size=0.8, mode="train")
    drawn = {cell: [] for cell in expected}
    for _ in range(150):
        found = sample(dict(cloud))
        assert "point2voxel_map" not in found
        assert [tuple(cell) for cell in found["grid_coord"].tolist()] == sorted(expected)
        for cell, row in zip(found["grid_coord"].tolist(), found["pts_instance_mask"]):
            drawn[tuple(cell)].append(row)
    for cell, rows in expected.items():
        numbers = np.array([drawn[cell].count(row) for row in rows])
        assert numbers.sum() == 150, "a point of another voxel was taken"
        share = 1 / len(rows)
        spread = np.sqrt(150 * share * (1 - share))
        assert (np.abs(numbers - 150 * share) <= 5 * spread + 1e-9).all(), "points are not alike"


def test_voxels_far_from_the_origin_and_apart():
    # fifty thousand cells away, where a hash or float keys of cells could collide
    coord = np.array([[1000, -900, 0.5], [1000.01, -900, 0.5], [-1000, 900, 0.5]], np.float32)
    found = build("GridSample", voxel_size=0.02, mode="val")({"coord": coord})
    expected = sorted(voxels_by_loop(coord, 0.02))
    assert [tuple(cell) for cell in found["grid_coord"].tolist()] == expected


@pytest.mark.parametrize(
    ("coord", "message"),
    [
        (np.zeros((0, 3)), "no points"),
        (np.array([[0, np.nan, 0]]), "must be finite"),
        (np.array([[np.inf, 0, 0]]), "must be finite"),
        (np.array([[1e6, 0, 0]]), "subtract their mean"),
    ],
)
def test_clouds_without_voxels_are_refused(coord, message):
    results = {"coord": coord.astype(np.float32), "lidar_path": "hall.pth"}
    with pytest.raises(ValueError, match=message) as error:
        build("GridSample", voxel_size=0.04)(results)
    assert "hall.pth" in str(error.value)


@pytest.mark.parametrize("number", [1, 37, 399])
def test_sphere_crop_keeps_the_nearest(number):
    cloud = make_cloud()
    found = build("SphereCrop", max_points=number)(dict(cloud))["pts_instance_mask"]
    assert (np.diff(found) > 0).all(), "the order stays"
    assert len(found) == number
    # some point has exactly these around it
    distance = np.linalg.norm(cloud["coord"][:, None] - cloud["coord"], axis=-1)
    nearest = np.sort(np.argsort(distance, axis=1)[:, :number], axis=1)
    assert (nearest == found).all(1).any()


def test_small_clouds_are_not_cropped():
    cloud = make_cloud()
    assert build("SphereCrop", max_points=400)(dict(cloud))["coord"] is cloud["coord"]
    middle = build("SphereCrop", max_points=1, mode="center")(dict(cloud))
    assert middle["pts_instance_mask"].tolist() == [200]


def test_dropping_points():
    cloud = make_cloud()
    kept = build("RandomDropPoints", drop_ratio=0.2, prob=1)(dict(cloud))["pts_instance_mask"]
    assert len(kept) == 320
    assert (np.diff(kept) > 0).all(), "no point twice, and in order"
    assert len(build("RandomDropPoints", prob=0)(dict(cloud))["coord"]) == 400
    assert len(build("RandomDropPoints", drop_ratio=1, prob=1)(dict(cloud))["coord"]) == 1


def test_shuffling_moves_all_arrays_alike():
    cloud = make_cloud()
    found = build("PointShuffle")(dict(cloud))
    order = found["pts_instance_mask"]
    assert (np.sort(order) == np.arange(400)).all()
    assert not (order == np.arange(400)).all()
    for key in ("coord", "color", "normal", "pts_semantic_mask"):
        assert (found[key] == cloud[key][order]).all()


def test_voxels_of_raw_points_follow_a_shuffle_and_cannot_be_lost():
    cloud = make_cloud()
    voxels = build("GridSample", voxel_size=0.2, mode="val")(dict(cloud))
    before = voxels["grid_coord"][voxels["point2voxel_map"]]
    shuffled = build("PointShuffle")(dict(voxels))
    assert (shuffled["grid_coord"] != voxels["grid_coord"]).any()
    assert (shuffled["grid_coord"][shuffled["point2voxel_map"]] == before).all()
    with pytest.raises(ValueError, match="raw points would be left without the voxel"):
        build("SphereCrop", max_points=5)(dict(voxels))


def test_selecting_everything_per_point():
    results = {key: np.arange(6) for key in POINT_KEYS}
    results["gt_labels_3d"] = np.arange(6)
    chosen = select_points(results, np.array([True, False, False, True, True, False]))
    assert all(chosen[key].tolist() == [0, 3, 4] for key in POINT_KEYS)
    assert len(chosen["gt_labels_3d"]) == 6
    with pytest.raises(ValueError, match="one length"):
        select_points({"coord": np.zeros((3, 3)), "color": np.zeros((2, 3))}, np.array([0]))


EVERY = {
    "GlobalRotScaleTrans": {"translation_std": 0.1},
    "RandomFlip3D": {"flip_ratio_bev_horizontal": 1, "flip_ratio_bev_vertical": 1},
    "RandomJitterPoints": {},
    "CenterShift": {},
    "PositiveShift": {},
    "ElasticDistortion": {"prob": 1},
    "NormalizePointsColor": {"color_mean": 127.5, "color_std": 127.5},
    "RandomDropPointsColor": {"drop_ratio": 1},
    "ChromaticAutoContrast": {"prob": 1},
    "ChromaticTranslation": {"prob": 1},
    "ChromaticJitter": {"prob": 1},
    "PointShuffle": {},
    "RandomDropPoints": {"prob": 1},
    "SphereCrop": {"max_points": 100},
    "GridSample": {"voxel_size": 0.2},
}


@pytest.mark.parametrize("name", EVERY)
def test_arrays_keep_their_types_and_what_came_in_is_not_written_to(name):
    cloud, copy = make_cloud(), make_cloud()
    step = build(name, **EVERY[name])
    np.random.seed(1)
    found = step(dict(cloud))
    for key, value in cloud.items():
        assert (value == copy[key]).all(), f"{key} was written to"
        assert found[key].dtype == value.dtype, key
        assert len(found[key]) == len(found["coord"])
    np.random.seed(1)
    again = step(dict(cloud))
    assert all((found[key] == again[key]).all() for key in found), "the seed decides"
    assert name in repr(step)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("GridSample", {"mode": "test"}, "TestTimeFragments"),
        ("GridSample", {"voxel_size": 0}, "voxel_size must be a positive"),
        ("SphereCrop", {"max_points": 0}, "max_points must be"),
        ("SphereCrop", {"mode": "all"}, "mode must be"),
        ("RandomDropPoints", {"drop_ratio": 1.5}, "probability"),
    ],
)
def test_bad_arguments(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(name, **kwargs)
