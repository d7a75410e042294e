"""tools/train.py as people run it: the front door's config on digits, and what goes wrong."""

import signal

import pytest
import torch
from mmengine.config import Config

from mmeffvit.checkpoint import CheckpointError
from mmeffvit.engine.errors import InvalidLossError, LaunchError
from tests.engine import toy
from tests.tools import runs


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return runs.write_data(tmp_path_factory.mktemp("data") / "digits")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data):
    """The work dir and the output of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    config = runs.write_config(folder)
    output = train(config, folder, data)
    return folder, output


def train(config, work_dir, data, *arguments, **kwargs):
    options = ("--cfg-options", f"data_root={data}")
    return runs.run("train.py", config, "--work-dir", work_dir, *arguments, *options, **kwargs)


def assert_same_weights(path, other):
    one, two = (torch.load(p, weights_only=True, map_location="cpu") for p in (path, other))
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for key, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][key]), key


@pytest.mark.slow
def test_trains_validates_saves(whole):
    work_dir, output = whole
    assert (work_dir / "epoch_2.pth").is_file()
    assert "eta: " in output
    assert "coco/segm_mAP" in output
    # what the run was started with can be read, and started again
    dumped = Config.fromfile(work_dir / "tiny.py")
    assert dumped.randomness.seed == 0
    assert dumped.default_hooks.checkpoint.type == "mmeffvit.SafeCheckpointHook"


@pytest.mark.slow
def test_killed_and_resumed_ends_as_if_not(whole, data, tmp_path):
    """Killed in the middle of an epoch, then in the middle of a write, then with half a file."""
    work_dir = tmp_path / "run"

    def config(hook):
        return runs.write_config(tmp_path, f"custom_hooks = [dict(kill=True, {hook})]\n")

    in_epoch = config("type='CrashHook', at=4")
    train(in_epoch, work_dir, data, status=-signal.SIGKILL)
    assert not (work_dir / "epoch_2.pth").exists()

    in_write = config("type='CrashInWriteHook', epoch=2")
    output = train(in_write, work_dir, data, "--resume", status=-signal.SIGKILL)
    assert "epoch_1.pth, the last whole checkpoint" in output
    assert sorted(path.name for path in work_dir.glob("*.pth*")) == [
        "epoch_1.pth",
        "epoch_2.pth.tmp",
    ]

    # a writer that is not atomic leaves the same bytes under the full name, and points to them
    (work_dir / "epoch_2.pth.tmp").rename(work_dir / "epoch_2.pth")
    (work_dir / "last_checkpoint").write_text(str(work_dir / "epoch_2.pth"))
    output = train(runs.write_config(tmp_path), work_dir, data, "--resume", "auto")
    assert "epoch_2.pth is truncated" in output
    assert_same_weights(whole[0] / "epoch_2.pth", work_dir / "epoch_2.pth")


def test_missing_data_is_one_sentence(tmp_path):
    output = runs.run(
        "train.py",
        runs.ROOT / "configs" / "mask_rcnn_secvit.py",
        "--data-root",
        tmp_path / "nowhere",
        status=2,
    )
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    annotations = tmp_path / "nowhere" / "annotations" / "instances_train2017.json"
    assert f"annotation file {annotations} is missing" in line
    assert "make demo" in line
    assert "tools/export_digits.py" in line
    assert "Traceback" not in output


@pytest.fixture
def tool(monkeypatch):
    """The tool's main, for what needs no process of its own."""
    monkeypatch.chdir(runs.ROOT)
    with runs.main("train.py") as main:
        yield main


@pytest.fixture
def toy_config(tmp_path):
    def write(**kwargs):
        path = tmp_path / "toy.py"
        Config(toy.config(**kwargs)).dump(path)
        return path

    return write


def test_missing_config_names_close_matches(tool):
    with pytest.raises(LaunchError, match=r"close matches: configs/mask_rcnn_secvit\.py"):
        tool("configs/mask_rcnn_secvitt.py")


@pytest.mark.skipif(torch.cuda.is_available(), reason="mixed precision works here")
def test_amp_without_a_gpu(tool, toy_config, tmp_path):
    with pytest.raises(LaunchError, match="needs an accelerator"):
        tool(toy_config(), "--amp", "--work-dir", tmp_path)


def test_truncated_checkpoint_given_by_path(tool, toy_config, tmp_path):
    torch.save({"state_dict": torch.zeros(1000)}, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"/cut\.pth is truncated.*--resume without a path"):
        tool(toy_config(), "--resume", tmp_path / "cut.pth")


def test_nan_stops_the_run(tool, toy_config, tmp_path):
    config = toy_config(model={"type": "ToyModel", "nan_at": 2})
    with pytest.raises(InvalidLossError, match="iteration 2, epoch 1: loss_fit=nan"):
        tool(config, "--work-dir", tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.pth"))


def test_options_and_resuming(tool, toy_config, tmp_path):
    """A longer schedule by --cfg-options goes on where the short one ended."""
    config = toy_config()
    tool(config, "--work-dir", tmp_path / "run")
    options = ("--cfg-options", "train_cfg.max_epochs=3", "log_level=ERROR")
    tool(config, "--work-dir", tmp_path / "run", "--resume", *options)
    epochs = [path.name for path in sorted((tmp_path / "run").glob("*.pth"))]
    assert epochs == ["epoch_1.pth", "epoch_2.pth", "epoch_3.pth"]
    assert torch.load(tmp_path / "run" / "epoch_3.pth", weights_only=True)["meta"]["iter"] == 9
