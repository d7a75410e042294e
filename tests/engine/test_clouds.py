"""Rooms and sweeps from disk to files, with a model that answers at once."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from PIL import Image

from mmeffvit.engine import clouds
from mmeffvit.engine.cloud_predictions import create_cloud_writer
from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.predictions import name_outputs
from mmeffvit.structures import PointData
from tests.datasets.points.clouds import make_room

CLASSES = ("floor", "shelf", "box")


def config(*pipeline):
    return Config(
        {
            "default_scope": "mmeffvit",
            "test_dataloader": {"dataset": {"pipeline": [{"type": t, **o} for t, o in pipeline]}},
        }
    )


ROOMS = config(
    ("mmeffvit.LoadRoomFromFile", {}),
    ("mmeffvit.CenterShift", {}),
    ("mmeffvit.PackPointInputs", {}),
)
SWEEPS = config(
    ("mmeffvit.LoadPointsFromFile", {}),
    ("mmeffvit.CameraViewFilter", {}),
    ("mmeffvit.PointsRangeFilter", {"point_cloud_range": [-50, -50, -5, 50, 50, 5]}),
    ("mmeffvit.PackPointInputs", {"feat_keys": ("coord", "intensity")}),
)


class Model:
    """Finds the class 2 in every third point, and a box with the number of points as its x."""

    def __init__(self, lose=0):
        self.lose = lose

    def test_step(self, batch):
        (points,), (sample,) = batch["inputs"]["points"], batch["data_samples"]
        if len(points) == 13:
            raise RuntimeError("thirteen is too few")
        labels = torch.arange(len(points) - self.lose) % 3
        sample.pred_pts_seg = PointData(pts_semantic_mask=labels)
        box = torch.tensor([[len(points), 0, 0, 4, 2, 1.5, 0.5, 3, 4]]).repeat(2, 1)
        sample.pred_instances_3d = InstanceData(
            bboxes_3d=box, scores_3d=torch.tensor([0.2, 0.9]), labels_3d=torch.tensor([0, 2])
        )
        return [sample]


@pytest.fixture
def predict(tmp_path, monkeypatch):
    """Run everything behind the command; returns what was said and the folder of results."""

    def run(cfg, *arguments, model=None, out=tmp_path / "out"):
        monkeypatch.setattr(clouds, "load_model", lambda *args: model or Model())
        monkeypatch.setattr(clouds, "read_metainfo", lambda *args: {"classes": CLASSES})
        said, failed = [], []
        paths = clouds.find_clouds(cfg, [str(a) for a in arguments], outside=out)
        predictor = clouds.CloudPredictor(cfg, "checkpoint.pth", warn=said.append)
        writer = None
        for path, sample in predictor.run(paths):
            if isinstance(sample, Exception):
                failed.append(sample)
                continue
            if "rooms" in str(path):
                del sample.pred_instances_3d
            else:
                del sample.pred_pts_seg
            writer = writer or create_cloud_writer(
                sample, out, predictor.metainfo, name_outputs(paths)
            )
            writer.write(path, sample)
        if writer is not None:
            writer.close()
        return said, failed, out

    return run


@pytest.fixture
def rooms(tmp_path):
    """One file, and one folder, of the same name in two folders."""
    root = tmp_path / "rooms"
    (root / "a").mkdir(parents=True)
    torch.save({k: v for k, v in make_room(30).items() if "gt" not in k}, root / "a/hall.pth")
    (root / "b/hall").mkdir(parents=True)
    np.save(root / "b/hall/coord.npy", np.random.default_rng(0).random((20, 3)))
    np.save(root / "b/hall/color.npy", np.full((20, 3), 200))
    return root


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_rooms_get_a_class_per_point(rooms, predict):
    said, failed, out = predict(ROOMS, rooms)
    assert not said
    assert not failed
    assert names(out) == [
        "classes.json",
        *(f"{kind}/{name}" for kind, name in (("labels", "a/hall.npy"), ("labels", "b/hall.npy"))),
        *("pictures/a/hall.png", "pictures/b/hall.png"),
    ]
    for name, count in (("a/hall", 30), ("b/hall", 20)):
        labels = np.load(out / f"labels/{name}.npy")
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, np.arange(count) % 3)
        with Image.open(out / f"pictures/{name}.png") as picture:
            assert len(picture.convert("RGB").getcolors(10**6)) > 20
    classes = json.loads((out / "classes.json").read_text())
    assert [(c["label"], c["name"]) for c in classes] == list(enumerate(CLASSES))


def test_a_folder_may_be_a_room_and_results_are_not_read(rooms, predict):
    predict(ROOMS, rooms / "b/hall", out=rooms / "out")
    torch.save({}, rooms / "out" / "old.pth")
    found = clouds.find_clouds(ROOMS, [str(rooms)], outside=rooms / "out")
    assert found == [rooms / "a/hall.pth", rooms / "b/hall"]
    assert clouds.find_clouds(ROOMS, [str(rooms / "*/hall")]) == [rooms / "b/hall"]


def test_what_cannot_be_read_or_is_refused_is_named_and_passed_over(rooms, predict):
    (rooms / "a/broken.pth").write_bytes(b"no room")
    torch.save(make_room(13), rooms / "a/small.pth")
    _, failed, out = predict(ROOMS, rooms)
    unreadable, refused = map(str, failed)
    assert unreadable.startswith(f"cannot prepare the room {rooms / 'a/broken.pth'}: RoomFileError")
    assert "does not take the room" in refused
    assert refused.endswith("(13 points after preparation): RuntimeError: thirteen is too few")
    assert names(out / "labels") == ["a/hall.npy", "b/hall.npy"]


def test_every_point_must_have_its_class(rooms, predict):
    with pytest.raises(LaunchError, match=r"29 predictions are not one for each of the 30 points"):
        predict(ROOMS, rooms, model=Model(lose=1))
    with pytest.raises(LaunchError, match=r"There is no room at .*: .pth files, or folders with"):
        predict(ROOMS, rooms / "none")


@pytest.fixture
def sweeps(tmp_path):
    points = np.random.default_rng(0).uniform((2, -5, -1, 0), (20, 5, 1, 1), (200, 4))
    for name in ("kitti/velodyne/1.bin", "bare/1.bin", "bare/2.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        points.astype(np.float32).tofile(tmp_path / name)
    (tmp_path / "kitti/calib").mkdir()
    (tmp_path / "kitti/calib/1.txt").write_text(
        "P2: 700 0 600 0 0 700 180 0 0 0 1 0\nR0_rect: 1 0 0 0 1 0 0 0 1\n"
        "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n"
    )
    (tmp_path / "bare/empty.bin").write_bytes(b"")
    return tmp_path


def test_sweeps_get_boxes(sweeps, predict):
    said, failed, out = predict(SWEEPS, sweeps / "kitti", sweeps / "bare")
    assert not failed
    assert len(said) == 1
    assert said[0].startswith(f"{sweeps / 'bare/1.bin'} has no calibration beside it")
    assert names(out) == [
        *("pictures/bare/1.png", "pictures/bare/2.png", "pictures/bare/empty.png"),
        *("pictures/kitti/velodyne/1.png", "predictions.json"),
    ]
    found = {
        s["file_name"]: s["objects"] for s in json.loads((out / "predictions.json").read_text())
    }
    seen = found[str(sweeps / "kitti/velodyne/1.bin")]
    assert 0 < seen[0]["box"][0] < 200  # the camera does not see all
    (only,) = found[str(sweeps / "bare/2.bin")]  # the other one scores less than 0.3
    assert only == {
        **{"label": 2, "class": "box", "score": 0.9},
        **{"box": [200, 0, 0, 4, 2, 1.5, 0.5], "velocity": [3, 4]},
    }
    assert found[str(sweeps / "bare/empty.bin")][0]["box"][0] == 0
