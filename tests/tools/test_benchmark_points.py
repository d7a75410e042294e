import csv
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "analysis"))
from benchmark_points import main

from mmeffvit.analysis.points import synthetic_pillars, synthetic_room


@pytest.fixture(autouse=True)
def _threads_as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_rooms_have_one_point_in_each_voxel_and_one_density():
    neighbours = []
    for count in (12000, 24000):
        xyz, cells = synthetic_room(count, 0.04)
        assert xyz.shape == cells.shape == (count, 3)
        assert torch.equal((xyz / 0.04).floor().long(), cells)
        assert len(cells.unique(dim=0)) == count
        distance = torch.cdist(xyz[:300], xyz)
        neighbours.append((distance < 0.2).sum().item() / 300)
    assert neighbours[1] == pytest.approx(neighbours[0], rel=0.15)


def test_network_and_attention(tmp_path, capsys):
    out = tmp_path / "network.csv"
    main(
        [
            "network",
            "--points",
            "600",
            "300",
            "--rounds",
            "1",
            "--warmup",
            "0",
            "--no-memory",
            "--threads",
            "1",
        ]
        + ["--threads", "1", "--out", str(out)]
    )
    rows = list(csv.DictReader(out.open()))
    assert [row["points"] for row in rows] == ["300", "600"]
    assert all(float(row["time_s"]) > 0 and int(row["pairs"]) > 0 for row in rows)
    assert "time_s grows with the points to the power of" in capsys.readouterr().out
    main(["attention", "--points", "600", "--rounds", "1", "--no-memory", "--out", str(out)])
    fused, reference = csv.DictReader(out.open())
    assert float(fused["speedup_over_reference"]) > 0
    assert reference["speedup_over_reference"] == ""


def test_flatformer(tmp_path):
    out = tmp_path / "flatformer.csv"
    main(["flatformer", "--points", "300", "--rounds", "1", "--no-memory", "--out", str(out)])
    (row,) = csv.DictReader(out.open())
    assert (row["arch"], row["implementation"]) == ("flatformer-waymo", "")
    # three groups of 144
    assert (row["points"], row["tokens"], row["pairs"]) == ("300", "432", str(3 * 144**2))
    assert float(row["time_s"]) > 0


def test_pillars_are_distinct_and_on_the_grid():
    coors = synthetic_pillars(2000, (120, 80))
    assert coors.shape == (2000, 4)
    assert len(coors.unique(dim=0)) == 2000
    assert not coors[:, :2].any()
    assert coors.min() >= 0
    assert coors[:, 2].max() < 80
    assert coors[:, 3].max() < 120


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["network", "--points", "50"], "at least 100 points"),
        (["flatformer", "--arch", "s3dis"], "has the variants waymo, not 's3dis'"),
        (["flatformer", "--implementations", "fused"], "has one implementation only"),
    ],
)
def test_what_cannot_be_measured(capsys, arguments, message):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err
