"""The table of every config: it fits the installed toolboxes, and what it says still holds."""

import importlib.util
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from maintenance.swap_zoo import batches, every_config, every_config_table, processes

DOCS = Path(__file__).parents[2] / "docs"
ROWS = every_config.read_rows(DOCS / "swap_every_config.csv")
#: one config in so many is tried again
EVERY = 173


def test_document_is_made_of_the_rows():
    text = (DOCS / "swap_every_config.md").read_text()
    versions = re.search(r"config\.csv\); (.+?)\.\sEach", text, re.DOTALL).group(1)
    assert text == every_config_table.render(ROWS, versions.replace("\n", " "))


def test_every_installed_config_has_a_row():
    known = {(row["toolbox"], row["config"]) for row in ROWS}
    installed = set(every_config.iter_configs())
    assert len(installed) > 2000
    assert installed <= known


def test_pyramids_build():
    counted = every_config_table.counted(ROWS)
    assert len(counted) >= 1400
    assert sum(row["result"] == "yes" for row in counted) >= 0.99 * len(counted)
    assert all(row["reason"] for row in ROWS if row["result"] != "yes")


def test_one_of_each_kind_was_trained_or_is_said_to_be_left():
    left = every_config_table.untried(ROWS)
    text = (DOCS / "swap_every_config.md").read_text()
    assert all(f"- `{row['toolbox']}::{row['config']}`" in text for row in left.values())
    tried = [row for row in ROWS if row["trained"]]
    assert len(tried) == len({(row["toolbox"], row["kind"]) for row in tried})
    assert all(row["trained_reason"] for row in tried if row["trained"] != "yes")


def test_a_kind_that_was_not_trained_is_said_so():
    rows = [dict(row) for row in ROWS]
    trained = next(row for row in rows if row["trained"] == "yes")
    trained["trained"] = ""
    left = every_config_table.untried(rows)
    assert left.keys() - every_config_table.untried(ROWS).keys() == {
        (trained["toolbox"], trained["kind"])
    }
    text = every_config_table.render(rows, "")
    assert f"{len(left)} were not tried" in " ".join(text.split())


@pytest.mark.parametrize("row", ROWS[::EVERY], ids=lambda row: f"{row['toolbox']}::{row['config']}")
def test_rows_hold(row):
    if importlib.util.find_spec(row["toolbox"]) is None:
        pytest.skip(f"{row['toolbox']} is not installed")
    outcome = every_config.try_config((row["toolbox"], row["config"]))
    assert outcome["result"] == row["result"]


def test_reasons_name_no_folder_of_a_machine():
    error = FileNotFoundError("no file '/opt/env/lib/python3.11/site-packages/mmdet/x.py'")
    assert processes.sentence(error) == "FileNotFoundError: no file 'mmdet/x.py'"
    assert [row for row in ROWS if re.search(r"(?<![\w.])/\w+/\w+", row["reason"])] == []


class TestSweep:
    def test_goes_on_where_it_was_interrupted(self, tmp_path, monkeypatch):
        tried = []

        def try_config(config, built, measured):
            row = {"backbone": "ResNet", "pyramid": True, "kind": "FCOS", "reason": ""}
            return {**row, "result": "yes", "digest": config[1]}

        def in_process(function, config, built, measured, timeout):
            tried.append((config[1], sorted(built)))
            return function(config, built, measured)

        monkeypatch.setattr(every_config, "try_config", try_config)
        monkeypatch.setattr(every_config, "in_process", in_process)
        configs = [("mmdet", f"a/{name}.py") for name in "abc"]
        path = tmp_path / "rows.csv"
        next(every_config.sweep(configs, path))
        rest = list(every_config.sweep(configs, path))
        assert [row["config"] for row in rest] == ["a/b.py", "a/c.py"]
        assert tried == [("a/a.py", []), ("a/b.py", []), ("a/c.py", ["a/b.py"])]
        assert [row["config"] for row in every_config.read_rows(path)] == [c[1] for c in configs]

    def test_trains_one_of_each_kind(self, tmp_path, monkeypatch):
        rows = [
            {"toolbox": "mmdet", "config": f"a/{i}.py", "pyramid": pyramid, "result": result}
            | {"kind": kind, "backbone": "ResNet"}
            for i, (kind, pyramid, result) in enumerate(
                [
                    ("FCOS", True, "refused"),
                    ("FCOS", True, "yes"),
                    ("FCOS", True, "yes"),
                    ("ATSS", True, "yes"),
                    ("SSD", False, "yes"),
                ]
            )
        ]
        path = tmp_path / "rows.csv"
        every_config.results.write_csv(
            path,
            [{f: row.get(f, "") for f in every_config.FIELDS} for row in rows],
            every_config.FIELDS,
        )
        monkeypatch.setattr(
            every_config, "run_method", lambda method, timeout: {"result": "yes", "reason": ""}
        )
        assert [row["config"] for row in every_config.train_kinds(path)] == ["a/1.py", "a/3.py"]
        assert list(every_config.train_kinds(path)) == []

    def test_what_the_table_of_methods_knows_is_not_trained_again(self):
        rows = [
            {"toolbox": "mmdet", "config": f"a/{i}.py", "kind": kind, "trained": trained}
            | {"pyramid": "True", "result": "yes", "trained_reason": ""}
            for i, (kind, trained) in enumerate(
                [("FCOS", "yes"), ("FCOS", ""), ("ATSS", ""), ("ATSS", ""), ("GFL", "")]
            )
        ]
        methods = [
            {"toolbox": "mmdet", "method": "a", "config": f"{i}.py", "result": result}
            for i, result in [(1, "yes"), (2, "yes"), (3, "yes"), (4, "no")]
        ]
        taken = every_config.take_methods(rows, methods)
        assert [row["trained"] for row in taken] == ["yes", "", "yes", "", ""]
        assert taken[2]["trained_reason"] == every_config.BY_METHOD
        assert rows[2]["trained"] == ""


def test_a_process_that_dies_or_hangs_is_a_result():
    def fails():
        raise KeyError("a")

    assert processes.in_process(fails, timeout=60)["error"] == "KeyError: 'a'"
    import os
    import time

    dies = processes.in_process(lambda: os._exit(3), timeout=60)
    assert dies["error"] == "the process ended with status 3"
    hangs = processes.in_process(lambda: time.sleep(60), timeout=0.1)
    assert hangs["error"] == "no result within 0 s"


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ([], "rbox"),
        ([{"type": "LoadAnnotations", "box_type": "qbox"}], "qbox"),
        (
            [
                {"type": "LoadAnnotations", "box_type": "qbox"},
                {"type": "ConvertBoxType", "box_type_mapping": {"gt_bboxes": "rbox"}},
            ],
            "rbox",
        ),
    ],
)
def test_rotated_boxes_are_of_the_kind_that_a_config_loads(steps, kind):
    cfg = Config({"train_dataloader": {"dataset": {"pipeline": steps}}})
    assert batches._box_type(cfg) == kind
