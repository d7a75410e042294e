"""The demo from end to end, as `make demo` runs it, on a handful of images and in this process."""

import json
import re

import pytest
from PIL import Image

from mmeffvit.visualization import read_scalars
from tests.tools import runs

_CONFIG = runs.ROOT / "configs/demo/mask_rcnn_secvit_demo.py"


def _train(root, work_dir, *arguments, epochs=1):
    make = ("num_train=6", "num_val=4", "image_size=96")
    options = [
        f"{split}_dataloader.dataset.make.{option}" for split in ("train", "val") for option in make
    ]
    options += [
        "train_dataloader.batch_size=2",
        "default_hooks.logger.interval=1",
        f"train_cfg.max_epochs={epochs}",
    ]
    arguments = ("--work-dir", work_dir, "--data-root", root / "digits", *arguments)
    return runs.run_here("train.py", _CONFIG, *arguments, "--cfg-options", *options)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    return root, root / "run", _train(root, root / "run")


@pytest.mark.slow
def test_writes_its_data_trains_and_prints_ap(demo):
    root, work_dir, output = demo
    assert "digits data: train 6/6 images" in output
    assert (root / "digits" / "annotations" / "val.json").is_file()
    assert re.search(r"Epoch\(train\) \[1\]\[1/3\].* eta: \d+:\d\d:\d\d", output)
    assert "Average Precision  (AP) @[ IoU=0.50:0.95" in output
    assert re.search(r"coco/bbox_mAP: \d\.\d+.*coco/segm_mAP: \d\.\d+", output)
    assert (work_dir / "epoch_1.pth").is_file()


@pytest.mark.slow
def test_leaves_both_figures(demo):
    _, work_dir, output = demo
    for name, least in (("predictions.png", (900, 500)), ("curves.png", (1000, 400))):
        assert f"{work_dir / name}" in output
        with Image.open(work_dir / name) as picture:
            picture.load()
            assert picture.width >= least[0]
            assert picture.height >= least[1]
            assert len(picture.convert("RGB").resize((64, 64)).getcolors(4096)) > 20
    train, val = read_scalars(work_dir)
    assert [record["step"] for record in train] == [1, 2, 3]
    assert [record["step"] for record in val] == [3]


@pytest.mark.slow
def test_resumed_curves_go_on(demo):
    root, work_dir, _ = demo
    output = _train(root, work_dir, "--resume", epochs=2)
    assert "digits data" not in output, "the data was there"
    train, val = read_scalars(work_dir)
    assert [record["step"] for record in train] == [1, 2, 3, 4, 5, 6]
    assert [record["step"] for record in val] == [3, 6]
    stamps = sorted(work_dir.glob("*/vis_data/scalars.json"))
    assert len(stamps) == 2
    assert json.loads(stamps[1].read_text().splitlines()[0])["step"] == 4


@pytest.mark.slow
def test_testing_draws_the_predictions(demo):
    root, work_dir, _ = demo
    out = root / "test"
    output = runs.run_here(
        "test.py",
        _CONFIG,
        work_dir / "epoch_1.pth",
        "--work-dir",
        out,
        "--data-root",
        root / "digits",
        "--cfg-options",
        "test_dataloader.dataset.make=False",
    )
    assert "coco/segm_mAP" in output
    with Image.open(out / "predictions.png") as picture:
        picture.load()
    assert not (out / "curves.png").exists()
