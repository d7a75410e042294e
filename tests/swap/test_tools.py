"""The commands: what is printed, what is written, and that launches take the same swap."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.launch import exit_with_sentence
from mmeffvit.swap import SwapError, command_line
from tests.tools import runs

RETINANET = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
DOCUMENT = Path(__file__).parents[2] / "docs" / "swap_a_backbone.md"


def test_prints_the_diff_of_the_documentation(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = DOCUMENT.read_text()
    unwrapped = re.sub(r"\\\n\s+", "", text)
    command = re.search(r"^python tools/(swap_backbone\.py.+)$", unwrapped, re.MULTILINE).group(1)
    with runs.main("swap_backbone.py") as main:
        main(*command.split()[1:])
    printed = capsys.readouterr().out
    assert re.search(r"```diff\n(.*?)```", text, re.DOTALL).group(1) in printed
    path = tmp_path / command.split()[-1]
    assert f"written to {path.relative_to(tmp_path)}" in printed
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    cfg = Config.fromfile(path)
    assert cfg.model.backbone.type == "mmeffvit.RMT"
    assert cfg.optim_wrapper.optimizer.type == "AdamW"


def test_a_name_that_is_no_python_file(capsys):
    with runs.main("swap_backbone.py") as main, pytest.raises(SystemExit):
        main(RETINANET, "--backbone", "rmt-tiny", "--out", "retinanet.yaml")
    assert "its name ends with .py" in capsys.readouterr().err


def test_refusal_is_a_sentence(capsys):
    words = ("mmdet::ssd/ssd300_coco.py", "--backbone", "rmt-tiny")
    with runs.main("swap_backbone.py") as main, pytest.raises(SystemExit) as end:
        exit_with_sentence(lambda: main(*words))
    assert end.value.code == 2
    assert "error: SSDVGG cannot be swapped" in capsys.readouterr().err


def load(*command):
    parser = command_line.launch_parser("", "")
    parser.add_argument("--recipe", choices=["keep", "adamw"])
    return command_line.load_config(command_line.parse(parser, list(command)))


def test_launch_with_another_backbone(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    options = ("--backbone-options", "drop_path_rate=0.3", "with_cp=True")
    cfg = load(RETINANET, "--backbone", "rmt-tiny", "--recipe", "adamw", *options)
    assert cfg.model.backbone.drop_path_rate == 0.3
    assert cfg.model.backbone.with_cp is True
    assert cfg.optim_wrapper.optimizer.type == "AdamW"
    assert cfg.work_dir == "work_dirs/retinanet_r50_fpn_1x_coco_rmt-tiny"


def test_options_are_applied_after_the_swap(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    override = ("--cfg-options", "model.backbone.drop_path_rate=0.4", "model.neck.num_outs=4")
    cfg = load(RETINANET, "--backbone", "rmt-tiny", *override)
    assert (cfg.model.backbone.drop_path_rate, cfg.model.neck.num_outs) == (0.4, 4)


def test_options_of_a_swap_need_a_backbone(monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(SystemExit):
        load(RETINANET, "--recipe", "adamw")
    assert "--recipe needs --backbone NAME" in capsys.readouterr().err
    with pytest.raises(SwapError, match="did you mean 'rmt-tiny'"):
        load(RETINANET, "--backbone", "rmt-tinny")


@pytest.mark.parametrize("tool", ["train.py", "test.py"])
def test_tools_take_the_option(tool, tmp_path):
    """All the way to where data is missed."""
    command = [RETINANET, *(["weights.pth"] if tool == "test.py" else [])]
    command += ["--backbone", "rmt-tiny", "--data-root", tmp_path]
    with runs.main(tool) as main, pytest.raises(LaunchError, match="is missing"):
        main(*command)
