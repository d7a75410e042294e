"""The table of methods: it fits the installed zoo, and what it says of a config still holds."""

import importlib.util
import re
from pathlib import Path

import pytest

from maintenance.swap_zoo import data_trial, methods, sweep, table, trial
from mmeffvit.engine.launch import load_config
from mmeffvit.swap import SwapError, set_dataset, swap_backbone

DOCS = Path(__file__).parents[2] / "docs"
ROWS = sweep.read_rows(DOCS / "swap_table.csv")
SHARDS = 12


def installed(row):
    return (methods.zoo_root(row["toolbox"]) / row["method"] / row["config"]).is_file()


pytestmark = pytest.mark.usefixtures("bases_read_once")


def test_document_is_made_of_the_rows():
    text = (DOCS / "swap_table.md").read_text()
    versions = re.search(r"\(swap_table\.csv\); (.+?)\.\sOne", text, re.DOTALL).group(1)
    assert text == table.render(ROWS, versions.replace("\n", " "))


@pytest.mark.parametrize("toolbox", methods.TOOLBOXES)
def test_every_folder_has_a_row(toolbox):
    folders = {path.name for path in methods.zoo_root(toolbox).iterdir() if path.is_dir()}
    rows = {row["method"] for row in ROWS if row["toolbox"] == toolbox}
    assert {name for name in folders if not name.startswith("_")} <= rows


def test_pyramids_work():
    """What does not work fails with the same error with its own backbone."""
    counted = [row for row in ROWS if row["pyramid"] == "True"]
    assert len(counted) >= 127
    for row in counted:
        upstream = row["reason"].startswith("as upstream, with its own backbone: ")
        assert row["result"] == "yes" or upstream, row
        # NAS-FCOS reads the size of a map, and nothing else of it
        if row["result"] == "yes" and row["method"] != "nas_fcos":
            assert row["without_gradient"] == "0", row


def test_methods_take_a_data_set():
    counted = table.counted_data(ROWS)
    assert len(counted) >= 125
    assert sum(row["dataset"] == "yes" for row in counted) >= 0.98 * len(counted)
    assert all(row["dataset_reason"] for row in counted if row["dataset"] != "yes")
    with_its_own = [row for row in counted if row["result"] == "refused"]
    assert len(with_its_own) >= 20
    assert sum(row["dataset"] == "yes" for row in with_its_own) >= 0.9 * len(with_its_own)


@pytest.fixture(scope="module")
def made_up_data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return {box: data_trial.write_data(root / box, box) for box in methods.TOOLBOXES}


@pytest.mark.parametrize(
    "shard", [0, *(pytest.param(shard, marks=pytest.mark.slow) for shard in range(1, SHARDS))]
)
def test_every_config_swaps(shard, made_up_data):
    rows = [row for row in ROWS if row["config"] and installed(row)]
    if importlib.util.find_spec("timm") is None:
        rows = [row for row in rows if "TIMM" not in row["backbone"]]
    for row in rows[shard::SHARDS]:
        name = f"{row['toolbox']}::{row['method']}/{row['config']}"
        if row["result"] == "refused":
            with pytest.raises(SwapError):
                swap_backbone(name, "ravlt", arch=trial.TINY)
            cfg = load_config(name)
        else:
            cfg = swap_backbone(name, "ravlt", arch=trial.TINY)
            assert cfg.backbone_swap.changes[0]["path"].startswith("model."), name
        if row["dataset"] == "refused":
            with pytest.raises(SwapError):
                set_dataset(cfg, made_up_data[row["toolbox"]])
        elif row["dataset"]:
            paths = [
                c["path"]
                for c in set_dataset(cfg, made_up_data[row["toolbox"]]).dataset_swap.changes
            ]
            assert "train_dataloader.dataset" in " ".join(paths), name


@pytest.fixture
def small_crops(monkeypatch):
    """Segmentors pad images to the size of their crops, here half a megapixel."""

    def bare_and_small(value):
        value = bare(value)
        if isinstance(value, dict) and value.get("type") == "SegDataPreProcessor":
            return {**value, "size": (64, 64)}
        return value

    bare = trial.bare
    monkeypatch.setattr(trial, "bare", bare_and_small)


@pytest.mark.usefixtures("small_crops")
@pytest.mark.parametrize(
    "key", ["mmdet/retinanet", "mmdet/reid", "mmdet/qdtrack", "mmdet/ld", "mmseg/pspnet"]
)
def test_trains_and_predicts(key):
    result = trial.try_method(methods.find_method(*key.split("/")))
    assert result["without_gradient"] == 0


@pytest.mark.parametrize("key", ["mmdet/retinanet", "mmdet/panoptic_fpn", "mmseg/pspnet"])
def test_trains_predicts_and_evaluates_on_made_up_data(key):
    result = data_trial.try_dataset(methods.find_method(*key.split("/")))
    assert result["loss"] > 0  # what it finds after a step may be nothing


def test_sweep_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    tried = []

    def run_method(method, timeout):
        tried.append(method.name)
        kept = {"toolbox": method.toolbox, "method": method.name, "config": method.config}
        return {**kept, "result": "no" if method.name == "b" else "yes"}

    monkeypatch.setattr(sweep, "run_method", run_method)
    monkeypatch.setattr(sweep, "run_dataset", lambda method, timeout, swap: {"dataset": "yes"})
    made = [methods.Method("mmdet", name, f"{name}.py", "ResNet", True) for name in "abc"]
    path = tmp_path / "rows.csv"
    first = sweep.sweep(made, path)
    next(first)
    next(first)
    assert [row["method"] for row in sweep.read_rows(path)] == ["a", "b"]
    assert len(list(sweep.sweep(made, path))) == 1
    assert len(list(sweep.sweep(made, path, redo=["no"]))) == 1
    assert tried == ["a", "b", "c", "b"]
    assert [row["result"] for row in sweep.read_rows(path)] == ["yes", "no", "yes"]


def test_what_a_swap_refuses_takes_data_with_its_own_backbone(tmp_path, monkeypatch):
    method = methods.Method("mmdet", "a", "a.py", "VGG", False)
    kept = {"toolbox": "mmdet", "method": "a", "config": "a.py"}
    asked = []

    def run_dataset(method, timeout, swap):
        asked.append(swap)
        return {"dataset": "yes"}

    monkeypatch.setattr(sweep, "run_dataset", run_dataset)
    for result, expected in (("refused", [False]), ("yes", [True]), ("no", [])):
        asked.clear()
        row = {**kept, "result": result}
        monkeypatch.setattr(sweep, "run_method", lambda method, timeout, row=row: row)
        list(sweep.sweep([method], tmp_path / f"{result}.csv"))
        assert asked == expected


def test_whose_fault_it_is_that_data_is_not_taken(monkeypatch):
    method = methods.Method("mmdet", "a", "a.py", "ResNet", True)

    def fails(method, swap=None):
        raise AttributeError("no JpegCompression")

    monkeypatch.setattr(sweep, "try_dataset", fails)
    monkeypatch.setattr(sweep, "build_pipelines", lambda method: {})
    row = sweep.run_dataset(method)
    assert (row["dataset"], row["dataset_reason"]) == ("no", "AttributeError: no JpegCompression")
    monkeypatch.setattr(sweep, "build_pipelines", fails)
    assert sweep.run_dataset(method)["dataset_reason"] == (
        "as upstream: AttributeError: no JpegCompression"
    )


def test_failures_are_told_apart(monkeypatch):
    method = methods.Method("mmdet", "a", "a.py", "ResNet", True)

    def fails(method, swap):
        raise KeyError("swapped" if swap else "original")

    monkeypatch.setattr(sweep, "try_method", fails)
    row = sweep.run_method(method)
    assert row["result"] == "no"
    assert row["reason"] == (
        "KeyError: 'swapped'; upstream, with its own backbone: KeyError: 'original'"
    )

    def fails_always(method, swap):
        raise KeyError("operator")

    monkeypatch.setattr(sweep, "try_method", fails_always)
    assert sweep.run_method(method)["reason"].startswith("as upstream, with its own backbone: Key")

    def refused(method, swap):
        raise SwapError("no pyramid")

    monkeypatch.setattr(sweep, "try_method", refused)
    row = sweep.run_method(method)
    assert (row["result"], row["reason"]) == ("refused", "no pyramid")
