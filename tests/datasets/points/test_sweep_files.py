"""KITTI and Waymo from files written here by hand."""

import json
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, DefaultScope

from mmeffvit.registry import DATASETS, TRANSFORMS

ROOT = Path(__file__).parents[3]
# LiDAR x ahead, y left, z up; camera x right, y down, z ahead, 0.3 m before and 0.1 m below
CALIBRATION = """P0: 0 0 0 0 0 0 0 0 0 0 0 0
P2: 700 0 600 0 0 700 180 0 0 0 1 0
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.1 1 0 0 -0.3
"""
# type, truncated, occluded, alpha, box in the image, height width length, x y z, rotation_y
LABELS = """Car 0.00 0 0 100 100 200 160 1.5 1.8 4.2 2.0 1.6 19.7 -1.5707963
Van 0.00 0 0 100 100 200 160 2.0 2.0 5.0 -4.0 1.6 29.7 0.0
Pedestrian 0.50 0 0 100 100 120 140 1.7 0.6 0.8 0.0 1.6 9.7 0.3
Cyclist 0.00 2 0 100 100 120 140 1.7 0.6 1.8 6.0 1.6 9.7 3.0
Car 0.00 0 0 100 100 120 120 1.5 1.8 4.2 1.0 1.6 59.7 0.0
Tram 0.00 0 0 100 100 120 140 1.7 0.6 1.8 6.0 1.6 9.7 3.0
DontCare -1 -1 -10 503 169 590 190 -1 -1 -1 -1000 -1000 -1000 -10
"""


@pytest.fixture
def kitti(tmp_path):
    for folder in ("ImageSets", "training/velodyne", "training/label_2", "training/calib"):
        os.makedirs(tmp_path / folder)
    (tmp_path / "ImageSets/train.txt").write_text("000000\n000007\n")
    (tmp_path / "ImageSets/val.txt").write_text("000007\n")
    for name, labels in (("000000", ""), ("000007", LABELS)):
        points = np.arange(20, dtype=np.float32).reshape(5, 4) + int(name)
        points.tofile(tmp_path / f"training/velodyne/{name}.bin")
        (tmp_path / f"training/label_2/{name}.txt").write_text(labels)
        (tmp_path / f"training/calib/{name}.txt").write_text(CALIBRATION)
    return tmp_path


def sweeps(root, kind="Kitti", **kwargs):
    pipeline = kwargs.pop("pipeline", [{"type": "mmeffvit.LoadPointsFromFile"}])
    # serialising collects garbage each time
    kwargs = {"data_root": str(root), "pipeline": pipeline, "serialize_data": False, **kwargs}
    return DATASETS.build({"type": f"mmeffvit.{kind}SweepDataset", **kwargs})


def test_kitti_boxes_in_the_lidar_frame(kitti):
    dataset = sweeps(kitti)
    assert dataset.metainfo["classes"] == ("Pedestrian", "Cyclist", "Car")
    assert len(dataset) == 2
    assert dataset[0]["gt_bboxes_3d"].shape == (0, 7)
    sample = dataset[1]
    # vans, trams and DontCare are not trained on; hard objects are
    assert sample["gt_labels_3d"].tolist() == [2, 0, 1, 2]
    # ahead of the camera by 19.7 m and of the LiDAR by 20, its bottom 1.6 m below the camera
    expected = [20.0, -2.0, -1.7, 4.2, 1.8, 1.5, 0.0]
    assert sample["gt_bboxes_3d"][0] == pytest.approx(expected, abs=1e-5)
    assert sample["gt_bboxes_3d"][3, 6] == pytest.approx(-math.pi / 2)
    assert sample["gt_bboxes_3d"][2, 6] == pytest.approx(-3.0 - math.pi / 2 + 2 * math.pi)
    assert sample["gt_bboxes_3d"].dtype == np.float32
    assert sample["coord"].shape == (5, 3)
    assert sample["intensity"][:, 0].tolist() == [10, 14, 18, 22, 26]
    assert "eval_ann_info" not in sample
    assert len(sweeps(kitti, filter_cfg={"filter_empty_gt": True})) == 1


@pytest.mark.parametrize(
    ("difficulty", "ignored"),
    [
        (None, [False, True, False, False, False]),
        ("easy", [False, True, True, True, True]),
        ("moderate", [False, True, True, True, True]),
        ("hard", [False, True, False, False, True]),
    ],
)
def test_kitti_difficulties(kitti, difficulty, ignored):
    val = {"ann_file": "ImageSets/val.txt", "test_mode": True, "difficulty": difficulty}
    sample = sweeps(kitti, **val)[0]
    truth = sample["eval_ann_info"]
    assert truth["gt_labels_3d"].tolist() == [2, 2, 0, 1, 2]
    assert truth["gt_ignore"].tolist() == ignored
    assert len(sample["gt_labels_3d"]) == 5 - sum(ignored)


def test_camera_sees_what_is_ahead(kitti):
    results = sweeps(kitti)[1]
    # 700 px per unit of x / z around (600, 180)
    results["coord"] = np.array(
        [[20, 0, 0], [-20, 0, 0], [20, 16, 0], [20, 17, 0], [20, 0, 5.5], [20, 0, -5]], np.float32
    )
    results["intensity"] = np.arange(6, dtype=np.float32)[:, None]
    transform = TRANSFORMS.build({"type": "mmeffvit.CameraViewFilter"})
    seen = transform(results)["intensity"][:, 0].tolist()
    assert seen == [0, 2, 5]  # 17 m to the left are 604 px to the left


def test_kitti_errors_name_the_file(kitti):
    with pytest.raises(FileNotFoundError, match=r"list of sweeps .*ImageSets/test.txt is missing"):
        sweeps(kitti, ann_file="ImageSets/test.txt")
    with pytest.raises(ValueError, match="difficulty must be None or one of easy"):
        sweeps(kitti, difficulty="Moderate")
    velodyne, label = kitti / "training/velodyne/000007.bin", kitti / "training/label_2/000007.txt"
    dataset = sweeps(kitti)
    velodyne.write_bytes(velodyne.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"000007.bin have 77 bytes, no multiple of 16"):
        dataset[1]
    np.full((1, 4), np.nan, np.float32).tofile(velodyne)
    with pytest.raises(ValueError, match=r"000007.bin have coordinates that are not finite"):
        dataset[1]
    velodyne.unlink()
    with pytest.raises(FileNotFoundError, match=r"000007.bin are missing"):
        dataset[1]
    label.write_text(LABELS + "Car 0 0 0 1 2 3")
    with pytest.raises(ValueError, match=r"line 8 of the label file .*000007.txt must be a class"):
        sweeps(kitti)
    label.unlink()
    with pytest.raises(FileNotFoundError, match=r"label file .*000007.txt is missing"):
        sweeps(kitti)
    (kitti / "training/calib/000000.txt").write_text("P2: 1 2 3\n")
    with pytest.raises(ValueError, match=r"000000.txt needs R0_rect with 9 numbers, found none"):
        sweeps(kitti)


def test_sweeps_without_labels_are_tested(kitti):
    pack = {"type": "mmeffvit.PackPointInputs", "feat_keys": ("coord", "intensity")}
    for path in (kitti / "training/label_2").iterdir():
        path.unlink()
    bare = {"with_label": False, "pipeline": [{"type": "mmeffvit.LoadPointsFromFile"}, pack]}
    dataset = sweeps(kitti, ann_file="ImageSets/val.txt", test_mode=True, **bare)
    assert dataset[0]["inputs"]["points"].shape == (5, 4)
    assert "gt_instances_3d" not in dataset[0]["data_samples"]
    assert dataset[0]["data_samples"].eval_ann_info == {}
    with pytest.raises(ValueError, match="without labels nothing can be trained"):
        sweeps(kitti, **bare)


def test_own_classes_have_no_colours_of_others(kitti):
    dataset = sweeps(kitti, metainfo={"classes": ("Tram", "Car")})
    assert dataset[1]["gt_labels_3d"].tolist() == [1, 1, 0]
    assert "palette" not in dataset.metainfo
    assert len(sweeps(kitti).metainfo["palette"]) == 3


@pytest.mark.parametrize("rows", [[0, 1], [1, 1]])
def test_empty_sweeps_are_trained_on(kitti, rows):
    """Alone or beside others, through the pipeline, the model and its losses."""
    cfg = Config.fromfile(ROOT / "configs/demo/flatformer_sweeps_demo.py")
    rng = np.random.default_rng(0)
    points = (rng.random((300, 4)) * (30, 10, 3, 1) - (0, 5, 1.7, 0)).astype(np.float32)
    points.tofile(kitti / "training/velodyne/000000.bin")
    (kitti / "training/velodyne/000007.bin").write_bytes(b"")
    steps = [s for s in cfg.train_dataloader.dataset.pipeline if "ObjectSample" not in s["type"]]
    dataset = sweeps(kitti, pipeline=steps)
    with DefaultScope.overwrite_default_scope("mmeffvit"):
        model = MODELS.build(cfg.model).train()
    batch = model.data_preprocessor(pseudo_collate([dataset[row] for row in rows]), training=True)
    assert len(batch["inputs"]["points"][-1]) == 0
    losses = model(**batch, mode="loss")
    sum(losses.values()).backward()
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def waymo_infos(poses=True):
    turn = [[0.0, -1, 0, 10], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    identity = np.eye(4).tolist()
    entries = []
    for number in range(6):
        instances = [
            {"bbox_3d": [1.0, 2, 3, 4, 5, 6, 0.5], "bbox_label_3d": 1, "num_lidar_pts": 3},
            {"bbox_3d": [7.0, 2, 3, 4, 5, 6, 0.5], "bbox_label_3d": 0, "num_lidar_pts": 0},
            {"bbox_3d": [7.0, 9, 3, 4, 5, 6, 0.5], "bbox_label_3d": 3, "num_lidar_pts": 9},
        ]
        entry = {"lidar_points": {"lidar_path": f"{number}.bin"}, "instances": instances}
        if poses:
            entry["ego2global"] = identity
            past = [{"lidar_points": {"lidar_path": "past.bin"}, "ego2global": turn}]
            entry["lidar_sweeps"] = past * min(number, 3)
        entries.append(entry)
    categories = {"Pedestrian": 0, "Cyclist": 1, "Car": 2, "Sign": 3}
    return {"metainfo": {"categories": categories}, "data_list": entries}


@pytest.fixture
def waymo(tmp_path):
    os.makedirs(tmp_path / "training/velodyne")
    for number in range(6):
        points = np.full((4, 6), number, np.float32)
        points.tofile(tmp_path / f"training/velodyne/{number}.bin")
    # at 6 m, 4 m and 0.5 m from the sensor
    past = [[6, 0, 1, 0.5, 9, 9], [0, 4, 1, 0.5, 9, 9], [0.5, 0, 1, 0.5, 9, 9]]
    np.array(past, np.float32).tofile(tmp_path / "training/velodyne/past.bin")
    (tmp_path / "infos.json").write_text(json.dumps(waymo_infos()))
    return tmp_path


LOAD = {"type": "mmeffvit.LoadPointsFromFile", "load_dim": 6, "use_dim": 5}
LOAD_NORM = {**LOAD, "norm_intensity": True, "norm_elongation": True}


def test_waymo(waymo):
    dataset = sweeps(waymo, "Waymo", ann_file="infos.json", pipeline=[LOAD_NORM])
    assert len(dataset) == 6
    sample = dataset[2]
    # numbers of classes are those of the list; objects without points are not trained on
    assert sample["gt_labels_3d"].tolist() == [2]
    assert sample["gt_bboxes_3d"].tolist() == [[1, 2, 3, 4, 5, 6, 0.5]]
    assert sample["coord"].tolist() == [[2, 2, 2]] * 4
    assert sample["intensity"][0, 0] == sample["elongation"][0, 0] == np.tanh(np.float32(2))
    assert "time" not in sample
    fifth = sweeps(waymo, "Waymo", ann_file="infos.json", load_interval=5, pipeline=[LOAD])
    assert [fifth[i]["coord"][0, 0] for i in range(len(fifth))] == [0, 5]
    assert fifth[1]["intensity"][0, 0] == 5
    truth = sweeps(waymo, "Waymo", ann_file="infos.json", test_mode=True)[0]["eval_ann_info"]
    assert truth["gt_ignore"].tolist() == [False, True]
    assert truth["gt_labels_3d"].tolist() == [2, 1]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_waymo_from_a_pickle_file_of_data(waymo, protocol):
    infos = waymo_infos()
    for entry in infos["data_list"]:
        entry["ego2global"] = np.array(entry["ego2global"])
        for item in entry["instances"]:
            item["bbox_3d"] = np.array(item["bbox_3d"], np.float32)
            item["bbox_label_3d"] = np.int64(item["bbox_label_3d"])
    with open(waymo / "infos.pkl", "wb") as file:
        pickle.dump(infos, file, protocol=protocol)
    ours, theirs = (
        sweeps(waymo, "Waymo", ann_file=f"infos.{kind}", pipeline=[LOAD])
        for kind in ("pkl", "json")
    )
    assert repr(ours[3]) == repr(theirs[3]).replace("infos.json", "infos.pkl")


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


class EvilArray:
    def __reduce__(self):
        return np.load, ("x.npy", None, True)


@pytest.mark.parametrize("evil", [Evil(), EvilArray(), np.load, {"data_list": [Evil()]}])
def test_pickle_files_run_no_code(waymo, evil):
    (waymo / "infos.pkl").write_bytes(pickle.dumps(evil))
    with pytest.raises(ValueError, match=r"infos.pkl cannot be read: it names"):
        sweeps(waymo, "Waymo", ann_file="infos.pkl")


def test_waymo_errors_name_the_file(waymo):
    with pytest.raises(FileNotFoundError, match=r"list of sweeps .*none.json is missing"):
        sweeps(waymo, "Waymo", ann_file="none.json")
    with pytest.raises(ValueError, match="load_interval must be at least 1, got 0"):
        sweeps(waymo, "Waymo", ann_file="infos.json", load_interval=0)
    path = waymo / "infos.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(ValueError, match=r"infos.json cannot be read: JSONDecodeError"):
        sweeps(waymo, "Waymo", ann_file="infos.json")
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"infos.json must be a dict .* got list; lists of"):
        sweeps(waymo, "Waymo", ann_file="infos.json")
    infos = waymo_infos()
    del infos["data_list"][1]["lidar_points"]
    path.write_text(json.dumps(infos))
    with pytest.raises(ValueError, match=r"entry 1 of .*infos.json is damaged: KeyError"):
        sweeps(waymo, "Waymo", ann_file="infos.json")


def several(sweeps_num, **kwargs):
    return {
        **LOAD,
        "type": "mmeffvit.LoadPointsFromMultiSweeps",
        "sweeps_num": sweeps_num,
        **kwargs,
    }


def test_earlier_sweeps_are_moved_and_dated(waymo):
    pipeline = [LOAD_NORM, several(2, norm_intensity=True)]
    dataset = sweeps(waymo, "Waymo", ann_file="infos.json", pipeline=pipeline)
    sample = dataset[4]
    assert "elongation" not in sample
    assert sample["time"][:, 0].tolist() == [0] * 4 + [-1, -2]
    # 6 m ahead then; the vehicle has since turned by -90 degrees and driven
    assert sample["coord"][4:] == pytest.approx(np.array([[10, 6, 1]] * 2), abs=1e-6)
    assert sample["intensity"][4, 0] == np.tanh(np.float32(0.5))
    assert dataset[1]["time"][:, 0].tolist() == [0] * 4 + [-1]  # has one sweep before it
    assert len(dataset[0]["coord"]) == 4
    near = sweeps(
        waymo, "Waymo", ann_file="infos.json", pipeline=[LOAD, several(1, remove_close=1)]
    )
    assert near[1]["coord"][4:] == pytest.approx(np.array([[10, 6, 1], [6, 0, 1]]), abs=1e-6)
    # poses are of both: what stands still in the world stays
    (waymo / "bare.json").write_text(json.dumps(waymo_infos(poses=False)))
    bare = sweeps(waymo, "Waymo", ann_file="bare.json", pipeline=pipeline)
    with pytest.raises(ValueError, match=r"needs lidar_sweeps and ego2global in the list .*0.bin"):
        bare[0]
