"""Sweeps made on the spot: KITTI's layout, boxes that survive it, and points where boxes are."""

import math

import numpy as np
import pytest
import torch

from mmeffvit.datasets.points import KittiSweepDataset
from mmeffvit.datasets.points.sweeps.kitti import read_calibration
from mmeffvit.demo_data.folders import folder_hash
from mmeffvit.demo_data.ray_caster import Scene
from mmeffvit.demo_data.streets import ensure_sweeps
from mmeffvit.demo_data.streets.camera import (
    Label,
    calibration,
    image_box,
    label_line,
    to_camera,
)
from mmeffvit.demo_data.streets.street import (
    SCANNER_HEIGHT,
    Street,
    StreetObject,
    _build_car,
    furnish_street,
)
from mmeffvit.demo_data.streets.sweeps import make_label, make_sweep, scan_street, scanner_rays
from mmeffvit.ops.points import points_in_boxes

BOUNDS = (0.0, -20.0, 40.0, 20.0)
TINY = {"num_train": 3, "num_val": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("sweeps") / "kitti"
    said = []
    assert ensure_sweeps(root, **TINY, log=said.append)
    assert said == [f"sweeps: train {n}/3 made" for n in (1, 2, 3)] + [
        f"sweeps: val {n}/2 made" for n in (1, 2)
    ]
    return root


def _boxes(labels):
    return np.array([label.box for label in labels]).reshape(-1, 7)


def test_layout_is_that_of_kitti(folder):
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    names = [f"{index:06d}" for index in range(5)]
    assert files == sorted(
        ["ImageSets/train.txt", "ImageSets/val.txt", "manifest.json"]
        + [f"training/velodyne/{name}.bin" for name in names]
        + [f"training/{kind}/{name}.txt" for kind in ("label_2", "calib") for name in names]
    )
    assert (folder / "ImageSets" / "train.txt").read_text().split() == names[:3]
    assert (folder / "ImageSets" / "val.txt").read_text().split() == names[3:]
    points = np.fromfile(folder / "training/velodyne/000003.bin", np.float32).reshape(-1, 4)
    expected, labels = make_sweep(0, "val", 0)
    assert (points == expected).all()
    lines = (folder / "training/label_2/000003.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [label.name for label in labels]
    assert {len(line.split()) for line in lines} == {15}
    rig = (folder / "training/calib/000003.txt").read_text()
    assert [line.split(":")[0] for line in rig.splitlines()] == [
        *("P0", "P1", "P2", "P3"),
        *("R0_rect", "Tr_velo_to_cam", "Tr_imu_to_velo"),
    ]


def test_the_same_arguments_give_the_same_sweeps(folder, tmp_path):
    assert not ensure_sweeps(folder, **TINY)
    assert ensure_sweeps(tmp_path / "kitti", **TINY, workers=1)
    assert folder_hash(tmp_path / "kitti") == folder_hash(folder)
    points = [make_sweep(s, split, 0)[0] for s, split in ((0, "train"), (0, "val"), (1, "val"))]
    assert len({len(p) for p in points}) > 1


def test_boxes_survive_the_layout(folder):
    dataset = KittiSweepDataset(
        data_root=str(folder), ann_file="ImageSets/val.txt", difficulty=None, test_mode=True
    )
    for index in range(2):
        truth = dataset.get_data_info(index)["eval_ann_info"]
        labels = [label for label in make_sweep(0, "val", index)[1] if label.name != "DontCare"]
        expected = _boxes(labels)
        assert len(expected) > 5
        found = truth["gt_bboxes_3d"]
        assert np.abs(found[:, :6] - expected[:, :6]).max() < 1e-3
        turn = found[:, 6] - expected[:, 6]
        assert np.abs(np.arctan2(np.sin(turn), np.cos(turn))).max() < 1e-3
        names = [dataset.metainfo["classes"][label] for label in truth["gt_labels_3d"]]
        assert names == [label.name for label in labels]


def test_boxes_hold_their_points_and_no_others():
    for seed in range(2):
        rng = np.random.default_rng(seed)
        street = furnish_street(rng, BOUNDS)
        points, tags, _ = scan_street(street, rng, BOUNDS, 90.0)
        boxes = np.array([item.box for item in street.objects])
        center = boxes.copy()
        center[:, 2] += boxes[:, 5] / 2
        # noise carries points a little way out, and points of the street a little way in
        larger, smaller = center.copy(), center.copy()
        larger[:, 3:6] += 0.15
        smaller[:, 3:6] -= 0.2
        cloud = torch.from_numpy(points[:, :3]).double()
        in_larger = points_in_boxes(cloud, torch.from_numpy(larger)).numpy()
        in_smaller = points_in_boxes(cloud, torch.from_numpy(smaller)).numpy()
        own = tags[:, None] == [item.tag for item in street.objects]
        assert own.sum() > 200
        assert in_larger[own].all()
        assert not in_smaller[~own].any()


def test_sweeps_are_what_networks_are_made_for():
    numbers = {"Car": 0, "Pedestrian": 0, "Cyclist": 0, "DontCare": 0}
    for index in range(6):
        points, labels = make_sweep(0, "train", index)
        assert points.dtype == np.float32
        assert 3000 < len(points) < 7000
        assert (points[:, 0] > 0).all()
        assert np.abs(points[:, :2] - (20, 0)).max() <= 20
        assert points[:, 3].min() >= 0
        assert points[:, 3].max() < 1
        # the street lies below the scanner, and slopes a little
        assert np.percentile(points[:, 2], 5) == pytest.approx(-SCANNER_HEIGHT, abs=0.7)
        for label in labels:
            numbers[label.name] += 1
            assert (label.num_points >= 5) == (label.name != "DontCare")
    assert numbers["Car"] >= 18
    assert min(numbers["Pedestrian"], numbers["Cyclist"]) >= 6


def test_what_is_near_hides_what_is_far_and_has_more_points():
    near, far, hidden = (10, 3), (30, -8), (25, 7.5)
    rays = scanner_rays(90.0, np.random.default_rng(0))
    scene, size = Scene(), np.array((4.0, 1.7, 1.5))
    for tag, place in enumerate((near, far, hidden)):
        _build_car(scene.at((*place, -1.7)), size, tag)
    tags = scene.cast((0, 0, 0), rays).tag
    counts = [(tags == tag).sum() for tag in range(3)]
    assert counts[0] > 5 * counts[1] > 100
    alone = Scene()
    _build_car(alone.at((*hidden, -1.7)), size, 2)
    unhidden = (alone.cast((0, 0, 0), rays).tag == 2).sum()
    assert counts[2] < 0.6 * unhidden
    assert unhidden == (scene.only(2).cast((0, 0, 0), rays).tag == 2).sum()


def test_what_nothing_hides_is_not_occluded():
    """The share that is seen is of the rays of the scan, and so at most 1."""
    street = Street(np.random.default_rng(3))
    size = np.array((4.0, 1.7, 1.5))
    for place, yaw in (((12, 0), 0.3), ((30, 0), 0.2), ((25, 11), 1.0)):
        tag, position = street.new_tag(0.3, 0.8), (*place, street.ground(*place))
        _build_car(street.scene.at(position, yaw), size, tag)
        street.objects.append(StreetObject("Car", (*position, *size, yaw), tag))
    _, tags, rays = scan_street(street, np.random.default_rng(4), BOUNDS, 90.0)
    labels = [make_label(street, item, tags, rays, 5) for item in street.objects]
    shares = [
        label.num_points / (street.scene.only(item.tag).cast((0, 0, 0), rays).tag >= 0).sum()
        for label, item in zip(labels, street.objects)
    ]
    # the first one hides most of the second; rays that are lost count neither way
    assert shares[0] == shares[2] == 1
    assert shares[1] < 0.35
    assert [label.occluded for label in labels] == [0, 2, 0]


def test_all_around():
    points, labels = make_sweep(0, "train", 0, field_of_view=360)
    assert min((points[:, 0] < -10).sum(), (points[:, 0] > 10).sum()) > 500
    assert np.abs(points[:, :2]).max() <= 20
    behind = [label for label in labels if label.box[0] < -3]
    assert behind
    assert all((label.image_box == -1).all() for label in behind)


def test_a_label_by_hand():
    # a car that comes towards the scanner, 20 m ahead
    box = np.array((20.0, 0, -1.7, 4, 1.6, 1.5, math.pi))
    label = Label("Car", box, 9, 0.0, 0, *image_box(box)[:1])
    name, *numbers = label_line(label).split()
    numbers = [float(number) for number in numbers]
    assert name == "Car"
    assert numbers[7:10] == [1.5, 1.6, 4]
    assert numbers[10:13] == pytest.approx(to_camera(box[None, :3])[0], abs=1e-4)
    assert numbers[11] > 1.4, "y points down"
    assert numbers[12] == pytest.approx(20, abs=0.5)
    assert numbers[13] == pytest.approx(math.pi / 2, abs=1e-4)
    left, top, right, bottom = numbers[3:7]
    assert left < 621 < right
    assert 180 < top < bottom
    # 1.5 m at 18 m, the near side of it, seen with a focal length of 621 pixels
    assert bottom - top == pytest.approx(1.5 * 621 / 18, rel=0.1)
    aside, share = image_box(np.array((5.0, 5.2, -1.7, 4, 1.6, 1.5, 0)))
    assert 0.1 < share < 0.9
    assert aside[0] == 0


def test_the_rig_is_read_as_it_is_written(folder):
    read = read_calibration(str(folder / "training/calib/000000.txt"))
    points = np.random.default_rng(0).uniform(-9, 9, (20, 3))
    moved = (read["lidar2cam"] @ np.column_stack((points, np.ones(20))).T).T[:, :3]
    assert moved == pytest.approx(to_camera(points))
    rotation = calibration()["R0_rect"]
    assert rotation @ rotation.T == pytest.approx(np.eye(3))


def test_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match="field is 5; it must be at least 20"):
        ensure_sweeps(tmp_path / "x", field=5)
    with pytest.raises(ValueError, match="at most 360"):
        ensure_sweeps(tmp_path / "x", field_of_view=400)
