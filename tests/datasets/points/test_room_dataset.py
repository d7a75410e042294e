"""Data sets of rooms: files that are read, files that are refused, and the recipes."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS

from mmeffvit.datasets.points.rooms.files import RoomFileError, read_room
from tests.datasets.points.clouds import make_room

BASES = Path(__file__).parents[3] / "configs/_base_/datasets"
S3DIS_CLASSES = ["ceiling", "floor", "wall", "beam", "column", "window", "door", "table"]
S3DIS_CLASSES += ["chair", "sofa", "bookcase", "board", "clutter"]


def build(name, root, **kwargs):
    return DATASETS.build({"type": f"mmeffvit.{name}RoomDataset", "data_root": str(root), **kwargs})


def load(path, semantic_key="semantic_gt", num_classes=13, **kwargs):
    step = TRANSFORMS.build({"type": "mmeffvit.LoadRoomFromFile", **kwargs})
    info = {"lidar_path": str(path), "semantic_key": semantic_key, "num_classes": num_classes}
    return step(info)


def test_s3dis_lists_rooms_by_area(room_root):
    data = build("S3DIS", room_root)
    names = [
        str(Path(data.get_data_info(i)["lidar_path"]).relative_to(room_root)) for i in range(6)
    ]
    assert names == ["Area_1/hall_1.pth"] + [f"Area_{k}/office_1.pth" for k in (1, 2, 3, 4, 6)]
    looped = build("S3DIS", room_root, areas=(5,), loop=30)
    assert (len(data), len(looped)) == (6, 30)
    assert looped[17]["lidar_path"].endswith("Area_5/office_1.pth")
    assert looped[17]["sample_idx"] == 17
    assert list(data.metainfo["classes"]) == S3DIS_CLASSES
    assert len(set(data.metainfo["palette"])) == 13
    assert data.metainfo["label2cat"][8] == "chair"
    assert data.metainfo["ignore_index"] == 255


def test_rooms_are_made_when_first_used(tmp_path):
    make = {"num_train": 2, "num_val": 1, "rays": 500, "workers": 1}
    pipeline = [{"type": "mmeffvit.LoadRoomFromFile"}, {"type": "mmeffvit.PackPointInputs"}]
    (sample,) = build("S3DIS", tmp_path / "rooms", areas=(5,), make=make, pipeline=pipeline)
    labels = sample["data_samples"].gt_pts_seg.pts_semantic_mask
    assert len(labels) == len(sample["inputs"]["points"]) > 100
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "rooms").rglob("*.pth")}
    assert len(build("S3DIS", tmp_path / "rooms", areas=(5,), make=make)) == 1
    assert written == {path: path.stat().st_mtime_ns for path in written}, "written again"
    with pytest.raises(FileNotFoundError, match="no rooms"):
        build("S3DIS", tmp_path / "others", areas=(5,), make=False)


def test_own_classes_in_this_layout(room_root):
    data = build("S3DIS", room_root, areas=(1,), metainfo={"classes": ("thing",)})
    assert data.get_data_info(0)["num_classes"] == 1
    assert data.metainfo["label2cat"] == {0: "thing"}
    assert "palette" not in data.metainfo


def test_rooms_of_your_own(tmp_path):
    """Folders of .npy files, other names, another label for what is not known."""
    room = make_room(num_classes=3)
    labels = room["semantic_gt"][:, 0].copy()
    labels[labels == 255] = -1
    (tmp_path / "mine/kitchen").mkdir(parents=True)
    for key, value in {"coord": room["coord"], "color": room["color"], "segment": labels}.items():
        np.save(tmp_path / f"mine/kitchen/{key}.npy", value)
    torch.save(make_room(num_classes=2), tmp_path / "mine/bath.pth")
    data = build(
        "",
        tmp_path,
        folders=["mine"],
        semantic_key="segment",
        ignore_index=-1,
        metainfo={"classes": ("floor", "wall", "rest")},
        pipeline=[{"type": "mmeffvit.LoadRoomFromFile"}],
    )
    names = [Path(data.get_data_info(index)["lidar_path"]).name for index in range(len(data))]
    assert names == ["bath.pth", "kitchen"]
    loaded = data[1]
    assert loaded["pts_semantic_mask"].tolist() == np.where(labels < 0, 255, labels).tolist()
    assert loaded["coord"] == pytest.approx(room["coord"], abs=1e-6)
    with pytest.raises(RoomFileError, match=r"bath.pth has no \['segment'\]"):
        data[0]
    assert data.metainfo["ignore_index"] == 255, "what models get"
    with pytest.raises(ValueError, match="needs metainfo"):
        build("", tmp_path, folders=["mine"])
    (tmp_path / "mine/kitchen/segment.npy").write_bytes(b"")
    with pytest.raises(RoomFileError, match=r"cannot read .*segment.npy"):
        data[1]


def test_no_code_in_npy_files_runs(tmp_path):
    (tmp_path / "room").mkdir()
    np.save(tmp_path / "room/coord.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(RoomFileError, match="array of numbers"):
        read_room(tmp_path / "room")


def test_scannet_has_two_sets_of_classes_and_a_split_without(room_root):
    data = build("ScanNet", room_root)
    assert (len(data.metainfo["classes"]), data.metainfo["classes"][15]) == (20, "shower curtain")
    assert data.get_data_info(0)["semantic_key"] == "semantic_gt20"
    many = build("ScanNet", room_root, split="val", num_classes=200)
    assert len(set(many.metainfo["classes"])) == 200
    assert many.get_data_info(0)["semantic_key"] == "semantic_gt200"
    pipeline = [{"type": "mmeffvit.LoadRoomFromFile"}, {"type": "mmeffvit.PackPointInputs"}]
    (sample,) = build("ScanNet", room_root, split="test", pipeline=pipeline)
    assert "gt_pts_seg" not in sample["data_samples"]


def test_a_room_is_loaded_as_it_is(tmp_path):
    room = make_room()
    torch.save(room, tmp_path / "a.pth")
    found = load(tmp_path / "a.pth", keys=("coord", "color", "normal"))
    for key, value in (("coord", room["coord"]), ("color", room["color"])):
        assert found[key].dtype == np.float32
        assert (found[key] == value.astype(np.float32)).all()
    assert found["normal"].shape == (600, 3)
    for key, name in (("pts_semantic_mask", "semantic_gt"), ("pts_instance_mask", "instance_gt")):
        assert found[key].dtype == np.int64
        assert (found[key] == room[name][:, 0]).all()
    assert "normal" not in load(tmp_path / "a.pth")
    flat = {**room, "semantic_gt": room["semantic_gt"][:, 0].astype(np.float64)}
    flat["coord"] = torch.from_numpy(room["coord"])
    torch.save(flat, tmp_path / "b.pth")
    again = load(tmp_path / "b.pth")
    assert all((again[key] == found[key]).all() for key in ("coord", "pts_semantic_mask"))


@pytest.mark.parametrize("core", ["core", "_core"])
def test_arrays_of_numpy_1_and_2_are_read(tmp_path, core):
    file = io.BytesIO()
    room = make_room(4)
    room["coord"][0, 0] = np.float64(0.5)
    room["scale"] = np.float32(2)  # a scalar is pickled in another way
    torch.save(room, file, _use_new_zipfile_serialization=False)
    written = b"numpy._core" if np.__version__ >= "2" else b"numpy.core"
    assert written in file.getvalue()
    data = file.getvalue().replace(written, f"numpy.{core}".encode())
    (tmp_path / "a.pth").write_bytes(data)
    allowed = set(torch.serialization.get_safe_globals())
    found = read_room(tmp_path / "a.pth")
    assert (found["coord"] == room["coord"]).all()
    assert found["scale"] == 2
    assert set(torch.serialization.get_safe_globals()) == allowed, "what was allowed has changed"


class _Code:
    """Runs something when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_does_not_run(tmp_path):
    torch.save({**make_room(4), "more": _Code(tmp_path / "made")}, tmp_path / "evil.pth")
    with pytest.raises(RoomFileError, match=r"evil\.pth.*more than data: GLOBAL.*mkdir"):
        load(tmp_path / "evil.pth")
    assert not (tmp_path / "made").exists()
    torch.save({"coord": np.array([_Code(tmp_path / "made")])}, tmp_path / "objects.pth")
    with pytest.raises(RoomFileError, match=r"objects\.pth"):
        load(tmp_path / "objects.pth")
    assert not (tmp_path / "made").exists()


def _with(key, value):
    return lambda room: room.update({key: value})


def _at(key, row, value):
    def change(room):
        room[key] = room[key].astype(np.float64)
        room[key][row] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda room: room.pop("color"), r"has no \['color'\]; it has \['coord',"),
        (lambda room: room.pop("semantic_gt"), r"has no \['semantic_gt'\]"),
        (_with("color", np.zeros((5, 3))), "600 points, but its color has 5 rows"),
        (_with("semantic_gt", np.zeros(599)), "its pts_semantic_mask has 599"),
        (_with("instance_gt", np.zeros(599)), "its pts_instance_mask has 599"),
        (_with("coord", np.zeros((600, 4))), r"coord of shape \(600, 4\)"),
        (_with("coord", "text"), r"coord of shape \(\) and type <U4"),
        (_with("coord", np.zeros((0, 3))), "has no points"),
        (_at("coord", (7, 1), np.nan), "infinite coord in 1 of 600 rows, the first is row 7"),
        (_at("coord", 9, np.inf), "the first is row 9"),
        (_at("coord", 0, 1e6), "subtract the mean"),
        (_at("semantic_gt", 3, 13), r"semantic_gt \[13\]; classes are 0 to 12"),
        (_at("semantic_gt", 3, -1), r"semantic_gt \[-1\]"),
        (_at("semantic_gt", 3, 0.5), "no integers"),
        (_with("semantic_gt", np.zeros((600, 2))), r"semantic_gt of shape \(600, 2\)"),
    ],
)
def test_a_room_that_is_not_right_is_named(tmp_path, change, message):
    room = make_room()
    change(room)
    torch.save(room, tmp_path / "odd.pth")
    with pytest.raises(RoomFileError, match=message) as error:
        load(tmp_path / "odd.pth")
    assert str(tmp_path / "odd.pth") in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"garbage", "cut", "list"])
def test_a_file_that_is_no_room_is_named(tmp_path, content):
    path = tmp_path / "odd.pth"
    if content == "list":
        torch.save([1, 2], path)
    elif content == "cut":
        torch.save(make_room(), path)
        path.write_bytes(path.read_bytes()[:-300])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(RoomFileError, match=r"room .*odd\.pth"):
        load(path)


@pytest.mark.parametrize(
    ("name", "kwargs", "error", "message"),
    [
        ("S3DIS", {"areas": (7,)}, ValueError, "areas must be numbers of 1 to 6"),
        ("S3DIS", {"areas": ()}, ValueError, "areas must be"),
        ("S3DIS", {"loop": 0}, ValueError, "loop must be"),
        ("ScanNet", {"split": "eval"}, ValueError, "split must be"),
        ("ScanNet", {"num_classes": 21}, ValueError, "20 or 200"),
        ("S3DIS", {"root": "nowhere"}, FileNotFoundError, r"no rooms .* 'nowhere/Area_1'"),
    ],
)
def test_bad_arguments(room_root, name, kwargs, error, message):
    with pytest.raises(error, match=message):
        build(name, **{"root": room_root, **kwargs})


def test_keys_that_rooms_do_not_have():
    with pytest.raises(ValueError, match="keys must be"):
        load("a.pth", keys=("color",))


RANGES = {
    # of the columns of the features: coordinates within the room, normals, colours
    "s3dis": [(0, 2.5), (0, 1)],
    "scannet": [(-3, 3), (-1, 1), (-1, 1)],
}


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("name", RANGES)
def test_the_recipes_run(room_root, name, part):
    config = Config.fromfile(BASES / f"{name}_rooms.py")
    data = DATASETS.build({**config[f"{part}_dataloader"].dataset, "data_root": str(room_root)})
    rooms = {("s3dis", "train"): 180, ("scannet", "train"): 9}.get((name, part), 1)
    assert len(data) == rooms
    if part != "train":
        assert ("Area_5" if name == "s3dis" else "/val/") in data.get_data_info(0)["lidar_path"]
    sample = data[0]
    inputs, labels = sample["inputs"], sample["data_samples"].gt_pts_seg
    sets = inputs["fragments"] if part == "test" else [inputs]
    for points in (one["points"] for one in sets):
        assert points.shape[1] == 3 * len(RANGES[name])
        for columns, (low, high) in zip(points.split(3, dim=1), RANGES[name]):
            assert low - 1e-6 <= columns.min() <= columns.max() <= high + 1e-6
            assert part == "train" or columns.min() < columns.max()
    if part == "train":
        assert labels.voxel_semantic_mask.shape == inputs["coors"].shape[:1]
    else:
        assert len(labels.pts_semantic_mask) == 600
        assert set(labels.pts_semantic_mask[:5].tolist()) == {255}
    if part == "val":
        assert sample["data_samples"].point2voxel_map.max() == len(inputs["coors"]) - 1
    if part == "test":
        variants = config.test_pipeline[2].variants
        assert len(variants) == {"s3dis": 12, "scannet": 13}[name]
        seen = torch.cat([one["index"] for one in sets]).bincount(minlength=600)
        assert seen.min() >= len(variants), "every variant has every point"
