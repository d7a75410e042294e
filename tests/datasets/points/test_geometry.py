"""Transforms that move points: against formulas written out, and boxes against their corners."""

# ruff: noqa: NPY002 (the global generator is the one that transforms draw from)

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS

from mmeffvit.datasets.points.transforms.geometry import rotation_matrix
from tests.datasets.points.clouds import make_cloud


def build(name, **kwargs):
    return TRANSFORMS.build({"type": f"mmeffvit.{name}", **kwargs})


def corners(boxes):
    """(n, 8, 3) float64 corners of boxes that stand on their bottom."""
    signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0, 1)])
    found = []
    for x, y, z, dx, dy, dz, yaw in boxes.astype(np.float64):
        own = signs * (dx, dy, dz)
        turned = own.copy()
        turned[:, 0] = np.cos(yaw) * own[:, 0] - np.sin(yaw) * own[:, 1]
        turned[:, 1] = np.sin(yaw) * own[:, 0] + np.cos(yaw) * own[:, 1]
        found.append(turned + (x, y, z))
    return np.stack(found)


def fronts(boxes):
    """(n, 3) float64 middle of the lower front edges: where boxes look to."""
    x, y, z, dx, _, _, yaw = boxes.astype(np.float64).T
    return np.stack((x + np.cos(yaw) * dx / 2, y + np.sin(yaw) * dx / 2, z), axis=1)


def same_corners(a, b):
    """Whether the eight corners are the same ones in any order."""
    distance = np.linalg.norm(a[:, :, None] - b[:, None], axis=-1)
    return (distance.min(1) < 1e-5).all() and (distance.min(2) < 1e-5).all()


@pytest.mark.parametrize(
    ("axis", "start", "end"),
    [("z", (1, 0, 0), (0, 1, 0)), ("x", (0, 1, 0), (0, 0, 1)), ("y", (0, 0, 1), (1, 0, 0))],
)
def test_rotation_is_right_handed(axis, start, end):
    np.testing.assert_allclose(rotation_matrix(np.pi / 2, axis) @ start, end, atol=1e-12)
    matrix = rotation_matrix(0.3, axis)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


MOVES = {
    "turned": (
        ("GlobalRotScaleTrans", {"rot_range": (0.7, 0.7), "scale_ratio_range": (1, 1)}),
        lambda p: p @ rotation_matrix(0.7).T,
    ),
    "scaled": (
        ("GlobalRotScaleTrans", {"rot_range": 0.0, "scale_ratio_range": (1.5, 1.5)}),
        lambda p: p * 1.5,
    ),
    "mirrored in y": (("RandomFlip3D", {"flip_ratio_bev_horizontal": 1}), lambda p: p * (1, -1, 1)),
    "mirrored in x": (("RandomFlip3D", {"flip_ratio_bev_vertical": 1}), lambda p: p * (-1, 1, 1)),
}


@pytest.mark.parametrize(("transform", "move"), MOVES.values(), ids=MOVES)
def test_points_normals_and_boxes_move_alike(transform, move):
    cloud = make_cloud(boxes=True)
    tips = cloud["coord"].astype(np.float64) + cloud["normal"]
    moved = build(transform[0], **transform[1])(dict(cloud))
    np.testing.assert_allclose(moved["coord"], move(cloud["coord"].astype(np.float64)), atol=1e-5)
    # a normal is an arrow from the point to its tip, of length one
    arrows = move(tips) - moved["coord"]
    arrows /= np.linalg.norm(arrows, axis=1, keepdims=True)
    np.testing.assert_allclose(moved["normal"], arrows, atol=1e-5)
    assert same_corners(corners(moved["gt_bboxes_3d"]), move(corners(cloud["gt_bboxes_3d"])))
    expected = move(fronts(cloud["gt_bboxes_3d"]))
    np.testing.assert_allclose(fronts(moved["gt_bboxes_3d"]), expected, atol=1e-5)
    assert moved["gt_bboxes_3d"].dtype == np.float32


def test_shift_is_one_for_points_and_boxes():
    cloud = make_cloud(boxes=True)
    moved = build(
        "GlobalRotScaleTrans",
        rot_range=0.0,
        scale_ratio_range=(1, 1),
        translation_std=(1.0, 0.5, 0.0),
    )(dict(cloud))
    shift = (moved["coord"] - cloud["coord"]).mean(0)
    assert abs(shift[0]) > 1e-3
    assert abs(shift[1]) > 1e-3
    assert shift[2] == 0
    np.testing.assert_allclose(moved["coord"], cloud["coord"] + shift, atol=1e-5)
    expected = corners(cloud["gt_bboxes_3d"]) + shift
    assert same_corners(corners(moved["gt_bboxes_3d"]), expected)


def test_drawn_angles_and_factors_fill_their_ranges():
    turn = build("GlobalRotScaleTrans", rot_range=(-0.5, 1.0), scale_ratio_range=(0.8, 1.2))
    point = {"coord": np.array([[1, 0, 0]], np.float32)}
    found = np.stack([turn(dict(point))["coord"][0] for _ in range(300)])
    radius, angle = np.hypot(found[:, 0], found[:, 1]), np.arctan2(found[:, 1], found[:, 0])
    for values, low, high in ((radius, 0.8, 1.2), (angle, -0.5, 1.0)):
        assert low <= values.min() + 1e-6 < low + 0.1 * (high - low)
        assert high >= values.max() - 1e-6 > high - 0.1 * (high - low)
        assert abs(values.mean() - (low + high) / 2) < 0.1 * (high - low)


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (("GlobalRotScaleTrans", {"rot_prob": 0.25, "scale_ratio_range": (1, 1)}), 0.25),
        (("RandomFlip3D", {"flip_ratio_bev_horizontal": 0.5}), 0.5),
        (("RandomFlip3D", {"flip_ratio_bev_vertical": 0.75}), 0.75),
    ],
)
def test_probabilities(transform, expected):
    step = build(transform[0], **transform[1])
    point = {"coord": np.array([[1, 2, 3]], np.float32)}
    changed = [(step(dict(point))["coord"] != point["coord"]).any() for _ in range(400)]
    assert np.mean(changed) == pytest.approx(expected, abs=0.08)


def test_a_tilt_leaves_the_middle_of_the_box_where_it_is():
    cloud = make_cloud()
    middle = (cloud["coord"].min(0) + cloud["coord"].max(0)) / 2
    cloud["coord"] = np.concatenate((cloud["coord"], middle[None]))
    tilted = build(
        "GlobalRotScaleTrans",
        axis="x",
        center="box",
        rot_range=(0.1, 0.1),
        scale_ratio_range=(1, 1),
    )({"coord": cloud["coord"]})["coord"]
    np.testing.assert_allclose(tilted[-1], middle, atol=1e-6)
    expected = (cloud["coord"] - middle) @ rotation_matrix(0.1, "x").T + middle
    np.testing.assert_allclose(tilted, expected, atol=1e-5)


def test_jitter_has_its_spread_and_is_clipped():
    start = {"coord": np.zeros((20000, 3), np.float32)}
    moved = build("RandomJitterPoints", jitter_std=0.005, clip_range=(-0.02, 0.02))(dict(start))
    assert moved["coord"].std(0) == pytest.approx([0.005] * 3, rel=0.03)
    moved = build("RandomJitterPoints", jitter_std=(1, 0, 1), clip_range=(-0.02, 0.03))(dict(start))
    assert (moved["coord"].min(0), moved["coord"].max(0)) == (
        pytest.approx([-0.02, 0, -0.02]),
        pytest.approx([0.03, 0, 0.03]),
    )


def test_centring():
    coord = make_cloud()["coord"]
    low, high = coord.min(0), coord.max(0)
    middle = (low + high) / 2
    for name, kwargs, shift in (
        ("CenterShift", {}, (middle[0], middle[1], low[2])),
        ("CenterShift", {"apply_z": False}, (middle[0], middle[1], 0)),
        ("PositiveShift", {}, low),
    ):
        moved = build(name, **kwargs)({"coord": coord})["coord"]
        np.testing.assert_allclose(moved, coord - np.array(shift), atol=1e-6)


def _elastic_by_loops(coord, granularity, magnitude):
    """The same noise, blurred and interpolated cell by cell."""
    low = coord.min(0).astype(np.float64)
    size = ((coord.max(0) - low) // granularity).astype(int) + 3
    noise = np.random.randn(1, 3, *size)[0]
    for _ in range(2):
        padded = np.pad(noise, ((0, 0), (1, 1), (1, 1), (1, 1)))
        blurred = np.zeros_like(noise)
        for x, y, z in np.ndindex(3, 3, 3):
            blurred += padded[:, x : x + size[0], y : y + size[1], z : z + size[2]] / 27
        noise = blurred
    moved = []
    for point in coord:
        place = (point - low) / granularity + 1  # the first cell lies before the corner
        cell = np.floor(place).astype(int)
        part = place - cell
        value = 0
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(corner, part, 1 - part))
            value = value + weight * noise[(slice(None), *(cell + corner))]
        moved.append(point + magnitude * value)
    return np.stack(moved)


def test_elastic_distortion_against_loops():
    coord = make_cloud(60)["coord"]
    np.random.seed(3)
    bend = build("ElasticDistortion", distortion_params=((0.2, 0.4), (0.8, 1.6)), prob=1)
    found = bend({"coord": coord})["coord"]
    np.random.seed(3)
    np.random.random()
    expected = _elastic_by_loops(coord, 0.2, 0.4)
    expected = _elastic_by_loops(expected.astype(np.float32), 0.8, 1.6)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert np.abs(found - coord).max() > 0.02


def test_what_cannot_be_moved_is_refused():
    cloud = make_cloud(boxes=True)
    with pytest.raises(ValueError, match="stand upright"):
        build("GlobalRotScaleTrans", axis="x")(dict(cloud))
    with pytest.raises(ValueError, match="cannot be bent"):
        build("ElasticDistortion")(dict(cloud))
    stray = np.array([[0, 0, 0], [1e5, 1e5, 1e5]], np.float32)
    with pytest.raises(ValueError, match=r"stray points"):
        build("ElasticDistortion", prob=1)({"coord": stray})
    with pytest.raises(ValueError, match=r"no points \(room.pth\)"):
        build("CenterShift")({"coord": stray[:0], "lidar_path": "room.pth"})


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("GlobalRotScaleTrans", {"axis": "w"}, "axis must be"),
        ("GlobalRotScaleTrans", {"center": "mean"}, "center must be"),
        ("GlobalRotScaleTrans", {"rot_range": (1, 0)}, "rot_range must be"),
        ("GlobalRotScaleTrans", {"scale_ratio_range": (0, 1)}, "positive"),
        ("GlobalRotScaleTrans", {"translation_std": (1, 2)}, "one or three"),
        ("GlobalRotScaleTrans", {"rot_prob": 2}, "rot_prob must be a probability"),
        ("RandomFlip3D", {"flip_ratio_bev_vertical": -1}, "probability"),
        ("RandomJitterPoints", {"jitter_std": -1}, "none below zero"),
        ("ElasticDistortion", {"distortion_params": ((0, 1),)}, "must be positive"),
    ],
)
def test_bad_arguments(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(name, **kwargs)
