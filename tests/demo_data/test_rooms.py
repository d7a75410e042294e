"""Rooms made on the spot: S3DIS's layout, the same for the same seed, all classes, occlusion."""

import numpy as np
import pytest

from mmeffvit.datasets.points.rooms.files import read_room
from mmeffvit.demo_data.folders import folder_hash
from mmeffvit.demo_data.ray_caster import turn
from mmeffvit.demo_data.rooms.furniture import ROOM_CLASSES, NoRoomLeftError, Room, furnish
from mmeffvit.demo_data.rooms.scans import (
    ensure_rooms,
    make_room,
    place_scanners,
    see,
    sphere,
    thin,
)

TINY = {"num_train": 5, "num_val": 2, "rays": 800}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("rooms") / "s3dis"
    said = []
    assert ensure_rooms(root, **TINY, log=said.append)
    assert "rooms: train 5/5 made" in said
    return root


def test_layout_is_that_of_s3dis(folder):
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.pth"))
    assert files == [
        "Area_1/room_0001.pth",
        "Area_2/room_0002.pth",
        "Area_3/room_0003.pth",
        "Area_4/room_0004.pth",
        "Area_5/room_0001.pth",
        "Area_5/room_0002.pth",
        "Area_6/room_0005.pth",
    ]
    room = read_room(folder / "Area_5" / "room_0001.pth")
    assert {key: (a.dtype.name, a.shape[1]) for key, a in room.items()} == {
        "coord": ("float64", 3),
        "color": ("uint8", 3),
        "semantic_gt": ("int64", 1),
        "instance_gt": ("int64", 1),
    }
    assert len({len(a) for a in room.values()}) == 1
    assert np.abs(room["coord"].mean(0)).max() < 1e-9
    assert np.isfinite(room["coord"]).all()
    assert room["color"].max() > 150
    # an object has one class
    for instance in np.unique(room["instance_gt"]):
        assert len(np.unique(room["semantic_gt"][room["instance_gt"] == instance])) == 1


def test_the_same_arguments_give_the_same_rooms(folder, tmp_path):
    assert not ensure_rooms(folder, **TINY)
    assert ensure_rooms(tmp_path / "s3dis", **TINY, workers=1)
    assert folder_hash(tmp_path / "s3dis") == folder_hash(folder)
    rooms = [make_room(s, split, i, rays=500) for s, split, i in ((0, "train", 1), (1, "val", 1))]
    assert len(rooms[0]["coord"]) != len(rooms[1]["coord"])


def test_rooms_are_what_networks_are_made_for():
    counts = []
    for index in range(3):
        room = make_room(3, "val", index)
        assert 8000 < len(room["coord"]) < 12000
        extent = np.ptp(room["coord"], axis=0)
        assert (extent > (2.9, 2.9, 2.3)).all()
        assert (extent < (5.6, 4.8, 3.1)).all()
        counts.append(np.bincount(room["semantic_gt"][:, 0], minlength=len(ROOM_CLASSES)))
    # the first room of a split has every class, whatever the others have
    assert counts[0].min() >= 20
    assert sum(counts)[:3].sum() > 0.5 * sum(counts).sum(), "ceiling, floor and walls are most"


def test_classes_are_where_they_belong():
    room = make_room(0, "train", 0)
    z = room["coord"][:, 2] - room["coord"][:, 2].min()
    label = room["semantic_gt"][:, 0]
    height = {name: np.median(z[label == i]) for i, name in enumerate(ROOM_CLASSES)}
    assert height["floor"] < 0.05
    assert height["chair"] < height["door"] < height["beam"] < height["ceiling"]
    assert 0.3 < height["table"] < 0.85
    assert np.abs(z[label == 1]).max() < 0.06


def test_no_point_is_behind_a_box():
    room = furnish(np.random.default_rng(5))
    origins = place_scanners(room, np.random.default_rng(6))
    points, tags, _ = see(room, np.random.default_rng(6), 500)
    assert len(points) == 4 * 500, "rooms are closed"
    assert len(np.unique(tags)) > 0.6 * len(room.surfaces)
    boxes = [solid[1:8] for solid in room.scene._solids if solid[0] == 0]
    assert len(boxes) > 40
    steps = np.linspace(0.0, 1.0, 40, endpoint=False)[:, None, None]
    for origin, ends in zip(origins, np.split(points, 4)):
        # places on the way from the scanner, but not the last centimetres
        way = ends - origin
        way *= 1 - 0.01 / np.linalg.norm(way, axis=1, keepdims=True)
        way = origin + steps * way
        for x, y, z, *size, yaw in boxes:
            own = np.abs(turn(np.moveaxis(way - (x, y, z), -1, 0), -yaw))
            assert not (own < np.array(size)[:, None, None] / 2 - 1e-6).all(0).any()


def test_a_wall_hides_what_is_behind_it():
    room = Room(np.random.default_rng(0), (4, 3, 2.5))
    room.thing("wall").box((2, 1.5, 1.25), (0.1, 3, 2.5))
    room.thing("sofa").box((3, 1.5, 0.5), (0.8, 1.5, 1))
    hits = room.scene.cast((1, 1.5, 1.5), sphere(3000, np.random.default_rng(0)))
    assert set(np.unique(hits.tag)) == {-1, 0}
    hits = room.scene.cast((2.3, 0.3, 1.5), sphere(3000, np.random.default_rng(0)))
    assert set(np.unique(hits.tag)) == {-1, 0, 1}


def test_things_do_not_stand_in_each_other():
    room = Room(np.random.default_rng(0), (4, 3, 2.5))
    assert room.take_floor((0, 0, 0), (1, 1, 0))
    assert not room.take_floor((0.9, 1.5, 0), (2, 0.9, 0))
    assert not room.take_floor((3.5, 2, 0), (4.5, 3, 0))
    assert room.take_floor((1, 0, 0), (2, 1, 0))
    taken = [room.at_wall(1.0, 0, 0, 2) for _ in range(6)]
    for index in range(4):
        middles = sorted(middle for wall, middle in taken if wall == index)
        assert (np.diff(middles) > 1.08).all()
    with pytest.raises(NoRoomLeftError):
        room.at_wall(4.5, 0, 0, 2)


def test_thinning_keeps_one_point_of_a_cell():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (5000, 3))
    kept = points[thin(points, 0.25, rng)]
    cells = {tuple(c) for c in np.floor(points / 0.25).astype(int).tolist()}
    assert len(kept) == len(cells)
    assert {tuple(c) for c in np.floor(kept / 0.25).astype(int).tolist()} == cells


def test_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match="num_val is 0; it must be at least 1"):
        ensure_rooms(tmp_path / "x", num_val=0)
