"""tools/export_points.py: the layouts of S3DIS and KITTI, and whose options are whose."""

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "export_points", Path(__file__).parents[2] / "tools" / "export_points.py"
)
export_points = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(export_points)

_TINY = ["--num-train", "2", "--num-val", "1"]


def test_rooms(tmp_path, capsys):
    out = tmp_path / "s3dis"
    args = ["--layout", "s3dis", "--out", str(out), *_TINY, "--rays", "600"]
    assert export_points.main(args) == 0
    said = capsys.readouterr().out
    assert "rooms: train 2/2 made" in said
    assert "s3dis: 2 + 1 rooms, written in" in said
    assert "0 = ceiling, 1 = floor, 2 = wall" in said
    assert [p.name for p in sorted(out.rglob("*.pth"))] == ["room_0001.pth", "room_0002.pth"] + [
        "room_0001.pth"
    ]
    assert export_points.main(args) == 0
    assert "there already" in capsys.readouterr().out


def test_sweeps(tmp_path, capsys):
    out = tmp_path / "kitti"
    args = ["--layout", "kitti", "--out", str(out), *_TINY, "--field-of-view", "60"]
    assert export_points.main(args) == 0
    assert "kitti: 2 + 1 sweeps, written in" in capsys.readouterr().out
    assert len(list((out / "training" / "velodyne").iterdir())) == 3


def test_what_is_there_is_left_alone(tmp_path, capsys):
    (tmp_path / "kitti").mkdir()
    (tmp_path / "kitti" / "own.txt").write_text("mine")
    assert export_points.main(["--layout", "kitti", "--out", str(tmp_path / "kitti"), *_TINY]) == 1
    assert "was not written by mmeffvit" in capsys.readouterr().err
    assert (tmp_path / "kitti" / "own.txt").read_text() == "mine"


def test_wrong_arguments(tmp_path, capsys):
    args = ["--out", str(tmp_path / "x"), "--layout", "kitti"]
    assert export_points.main([*args, "--field", "5"]) == 1
    assert "field is 5.0; it must be at least 20" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        export_points.main([*args, "--spacing", "0.1"])
    assert "--spacing is for --layout s3dis, not kitti" in capsys.readouterr().err
