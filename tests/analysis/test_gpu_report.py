import csv
import math
import sys
from pathlib import Path

import pytest

from mmeffvit.analysis.gpu_report import FULL, plan, run, write_page
from mmeffvit.analysis.gpu_report.run import COLUMNS, Item, Value
from mmeffvit.models.zoo import list_backbones, split_name

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools" / "analysis"))
import gpu_report as tool  # noqa: E402  found by its folder

GOLDENS = list((ROOT / "tests/data/golden").glob("*.npz"))
HERE = {"machine": "a machine"}


@pytest.mark.slow
def test_all_of_it_runs_on_a_cpu(tmp_path):
    assert tool.main(["--tiny", "--device", "cpu", "--out", str(tmp_path)]) == 0
    with (tmp_path / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    # what a machine may lack is said, and is no failure
    missing = [row for row in rows if row["verdict"] == "unavailable"]
    assert {row["name"] for row in missing} <= {"neighbourhood_attention: natten"}
    assert all(row["note"] and not row["value"] for row in missing)
    rows = [row for row in rows if row not in missing]
    assert all(math.isfinite(float(row["value"])) for row in rows)
    assert all(float(row["value"]) > 0 for row in rows if row["unit"])
    # a piece of everything that the whole report has
    assert {row["section"] for row in rows} == {i.section for i in plan(FULL, "cuda", GOLDENS)}
    assert {row["verdict"] for row in rows} == {"", "ok"}
    page = (tmp_path / "report.md").read_text()
    assert "0 of them to look at" in page
    assert "| rmt-tiny | 1 x 64 x 96, bfloat16 |" in page
    assert "| manhattan_attention: flex | 1 x 9 x 11 tokens, bfloat16 |" in page


def test_the_most_important_comes_first():
    items = plan(FULL, "cuda", GOLDENS)
    sections = list(dict.fromkeys(item.section for item in items))
    assert sections[:4] == [
        "Golden files",
        "Operators",
        "Training step",
        "Training step of Mask R-CNN",
    ]
    steps = [item.name for item in items if item.section == "Training step"]
    assert steps[0] == "mmdet.SwinTransformer"
    assert steps[1].startswith("mmpretrain.ConvNeXt")
    assert set(steps[2:6]) == {"secvit-tiny", "rmt-tiny", "ravlt-tiny", "ssvit-tiny"}
    # one of each family, once
    assert len(set(steps)) == len(steps)
    families = {split_name(name)[0] for name in list_backbones()}
    assert {split_name(name)[0] for name in steps[2:]} == families


def items(*measures):
    return [Item("Section", f"item {i}", "8 x 8", m) for i, m in enumerate(measures)]


def test_what_fails_is_a_row_and_the_others_still_run(tmp_path):
    def fails():
        yield Value("time", 3.0, "ms")
        raise RuntimeError("out of something\nand more")

    def inexact():
        return [Value("error", float("nan"), "", 0.1), Value("other error", 0.01, "", 0.1)]

    rows = run(items(fails, inexact), tmp_path / "report.csv", 1, HERE)
    assert [row["verdict"] for row in rows] == ["", "failed", "too large", "ok"]
    assert rows[1]["note"] == "RuntimeError: out of something"
    write_page(rows, tmp_path / "report.md")
    page = (tmp_path / "report.md").read_text()
    assert "4 rows, 2 of them to look at." in page
    assert "- failed: Section, item 0, 8 x 8: RuntimeError: out of something" in page
    assert "- too large: Section, item 1, 8 x 8: error nan, limit 0.1" in page
    assert "| item 0 | 8 x 8 | 3 |  |  |" in page


def test_a_run_that_is_cut_short_leaves_what_it_had(tmp_path):
    out = tmp_path / "report.csv"

    def cut():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(items(lambda: [Value("time", 1.0, "ms")], cut), out, 1, HERE)
    with out.open() as file:
        (row,) = csv.DictReader(file)
    assert (row["name"], row["value"], row["machine"]) == ("item 0", "1", "a machine")
    assert tuple(row) == COLUMNS


def test_nothing_is_begun_when_the_time_is_over(tmp_path):
    rows = run(items(lambda: pytest.fail("was begun")), tmp_path / "report.csv", -1, HERE)
    assert [row["verdict"] for row in rows] == ["not run"]


def test_a_gpu_is_asked_for(monkeypatch):
    monkeypatch.setattr(tool.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="there is no GPU here; --tiny runs on a CPU"):
        tool.find_device(tool.parse_args(["--out", "x"]))
    assert tool.find_device(tool.parse_args(["--out", "x", "--tiny"])) == "cpu"
    assert tool.find_device(tool.parse_args(["--out", "x", "--device", "cpu"])) == "cpu"
