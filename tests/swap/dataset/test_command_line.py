"""``--dataset DIR``: of training and testing, and as a tool."""

import pytest
from mmengine.config import Config

from maintenance import shapes
from mmeffvit.swap import command_line
from tests.tools import runs

RETINANET = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
#: a detector and images of a size for tests
SMALL = [
    "model.neck.out_channels=16",
    "model.bbox_head.in_channels=16",
    "model.bbox_head.feat_channels=16",
    "model.bbox_head.stacked_convs=1",
    "train_dataloader.dataset.pipeline.2.scale=(64,64)",
    "val_dataloader.dataset.pipeline.1.scale=(64,64)",
    "test_dataloader.dataset.pipeline.1.scale=(64,64)",
    *(
        f"{split}_dataloader.{key}"
        for split in ("train", "val", "test")
        for key in ("num_workers=0", "persistent_workers=False")
    ),
]


@pytest.fixture
def data(tmp_path):
    return shapes.write_roboflow(tmp_path / "cells", num=(4, 2, 1))


def parse(*command):
    parser = command_line.launch_parser("", "")
    parser.add_argument("--recipe")
    return command_line.parse(parser, [str(word) for word in command])


def test_backbone_data_and_both_recipes(data, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    options = ("--dataset-options", "steps=40", "classes=[a]")
    args = parse(
        RETINANET,
        "--backbone",
        "rmt-tiny",
        "--dataset",
        data,
        "--recipe",
        "adamw,small-data",
        *options,
    )
    args.dataset_options.pop("classes")
    cfg = command_line.load_config(args)
    assert cfg.model.backbone.type == "mmeffvit.RMT"
    assert cfg.model.bbox_head.num_classes == 3
    assert cfg.optim_wrapper.optimizer.type == "AdamW"
    assert cfg.train_cfg.max_epochs == 10
    assert cfg.work_dir == "work_dirs/retinanet_r50_fpn_1x_coco_rmt-tiny_cells"
    report = command_line.dataset_report(cfg)
    assert "3 classes (square, bar, post); images: train 4, val 2, test 1" in report
    assert "@@ model.bbox_head.num_classes  # 3 classes" in report


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("--recipe", "small-data"), "small-data needs --dataset DIR"),
        (("--recipe", "adamw"), "--recipe needs --backbone NAME"),
        (("--recipe", "sgd"), "--recipe takes one or several of keep, adamw, small-data"),
        (("--dataset-options", "steps=3"), "--dataset-options needs --dataset DIR"),
        (("--dataset", ".", "--data-root", "."), "leave --data-root out"),
    ],
)
def test_what_does_not_go_together(command, message, capsys):
    with pytest.raises(SystemExit):
        parse(RETINANET, *command)
    assert message in capsys.readouterr().err


def test_tool_writes_a_config(data, tmp_path, capsys):
    out = tmp_path / "cells.py"
    with runs.main("set_dataset.py") as main:
        main(RETINANET, data, "--out", out)
    assert "- num_classes = 80\n+ num_classes = 3" in capsys.readouterr().out
    assert Config.fromfile(out).model.bbox_head.num_classes == 3


@pytest.mark.slow
def test_trains_evaluates_and_draws(data, tmp_path):
    """A folder of one's own and a name of upstream's are all that it takes."""
    words = [RETINANET, "--dataset", data, "--backbone", "secvit-tiny", "--work-dir", tmp_path]
    small = ["--cfg-options", *SMALL, "train_cfg.max_epochs=1"]
    with runs.main("train.py") as main:
        main(*words, *small)
    assert (tmp_path / "epoch_1.pth").is_file()
    with runs.main("test.py") as main:
        shown = ("--show-dir", tmp_path / "shown")
        main(words[0], tmp_path / "epoch_1.pth", *words[1:], *shown, *small[:-1])
    assert len(list(tmp_path.glob("**/shown/*.png"))) == 1
