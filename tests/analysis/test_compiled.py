"""What is reported of compilation, with a backend that compiles nothing."""

import csv
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mmeffvit import create_backbone
from mmeffvit.analysis import compiled

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools" / "analysis"))
import compile_report as tool  # noqa: E402  found by its folder


class Graphs(nn.Module):
    """Wide images have a graph of their own, if there is a choice."""

    def __init__(self, chooses):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.chooses = chooses

    def forward(self, x):
        return (self.conv(x) * (2 if self.chooses and x.shape[3] > 20 else 1),)


@pytest.mark.parametrize(("chooses", "graphs"), [(False, ["1", "0"]), (True, ["1", "1"])])
def test_a_row_for_each_size_and_graphs_that_are_made_again(
    tmp_path, monkeypatch, capsys, chooses, graphs
):
    def build(name):
        if name == "broken":
            raise ValueError("there is none")
        return Graphs(chooses)

    monkeypatch.setattr(compiled, "build_backbone", build)
    out = tmp_path / "rows.csv"
    options = ["--backend", "eager", "--rounds", "1", "--out", str(out), "--threads", "1"]
    tool.main(["--backbones", "broken", "small", "--sizes", "20x24", "30x17", *options])
    with out.open() as file:
        broken, *rows = csv.DictReader(file)
    assert (broken["backbone"], broken["note"]) == ("broken", "ValueError: there is none")
    assert [(row["height"], row["width"]) for row in rows] == [("20", "24"), ("30", "17")]
    assert [row["graphs"] for row in rows] == graphs
    for row in rows:
        assert float(row["gradient_error"]) < 1e-6
        ratio = float(row["compiled_cpu_s"]) / float(row["eager_cpu_s"])
        assert float(row["ratio"]) == pytest.approx(ratio, abs=0.01 + 0.01 * ratio)
        assert row["torch"] == torch.__version__
    table = capsys.readouterr().out
    assert "| small | 20x24 |" in table
    assert "| broken |  | ValueError: there is none |" in table


def test_fewer_blocks_are_as_they_were():
    """Also of an arch that says something of each block."""
    whole = create_backbone("ssvit-tiny")
    few = compiled._shallow("ssvit-tiny", 1)
    assert [len(stage.blocks) for stage in few.stages] == [1, 1, 1, 1]
    assert [len(stage.blocks) for stage in whole.stages] != [1, 1, 1, 1]
    kept = {k: v.shape for k, v in whole.state_dict().items()}
    assert {k: v.shape for k, v in few.state_dict().items()}.items() <= kept.items()


def test_only_pyramids_of_ours_have_fewer_blocks():
    with pytest.raises(ValueError, match=r"not mmdet\.SwinTransformer's"):
        compiled._shallow("mmdet.SwinTransformer", 1)
    with pytest.raises(ValueError, match=r"resformer-small has no stages of blocks"):
        compiled._shallow("resformer-small", 1)
