"""The launchers with mmpretrain's configs: the demo end to end, ImageNet's config on digits."""

import json
import re

import pytest
import torch

from mmeffvit.checkpoint import CheckpointError
from mmeffvit.engine.errors import LaunchError
from tests.tools import runs

DEMO = runs.ROOT / "configs/demo/secvit_cls_demo.py"
# six steps in two epochs
OPTIONS = [
    f"{split}_dataloader.dataset.make.{option}"
    for split in ("train", "val", "test")
    for option in ("num_train=12", "num_val=6")
] + ["train_dataloader.batch_size=4", "train_cfg.max_epochs=2", "default_hooks.logger.interval=1"]


def train(root, work_dir, *arguments):
    arguments = ("--work-dir", work_dir, "--data-root", root / "digits", *arguments)
    return runs.run_here("train.py", DEMO, *arguments, "--cfg-options", *OPTIONS)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("cls")
    return root, root / "run", train(root, root / "run")


@pytest.mark.slow
def test_demo_writes_its_data_trains_and_prints_accuracy(demo):
    root, work_dir, output = demo
    assert "digits data: train 12/12 images" in output
    assert (root / "digits" / "meta" / "val.txt").is_file()
    assert re.search(r"Epoch\(train\) \[2\]\[3/3\].* eta: \d+:\d\d:\d\d", output)
    assert len(re.findall(r"accuracy/top1: \d+\.\d+", output)) == 2
    assert (work_dir / "epoch_2.pth").is_file()


@pytest.mark.slow
def test_resumed_ends_with_the_same_weights(demo):
    root, work_dir, _ = demo
    (work_dir / "epoch_2.pth").rename(root / "whole.pth")
    output = train(root, work_dir, "--resume")
    assert "epoch_1.pth, the last whole checkpoint" in output
    one, two = (
        torch.load(path, weights_only=True)["state_dict"]
        for path in (root / "whole.pth", work_dir / "epoch_2.pth")
    )
    assert one.keys() == two.keys()
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


@pytest.mark.slow
def test_its_checkpoint_is_tested_and_initialises_a_detector(demo, tmp_path):
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    root, work_dir, _ = demo
    checkpoint = work_dir / "epoch_1.pth"
    pictures = tmp_path / "pictures"
    arguments = ("--work-dir", tmp_path, "--data-root", root / "digits", "--show-dir", pictures)
    runs.run_here("test.py", DEMO, checkpoint, *arguments, "--cfg-options", *OPTIONS)
    (metrics,) = tmp_path.glob("*/*.json")
    assert set(json.loads(metrics.read_text())) >= {"accuracy/top1"}
    assert len(list(pictures.glob("*.png"))) == 6

    cfg = Config.fromfile(runs.ROOT / "configs/demo/mask_rcnn_secvit_pretrained_demo.py")
    cfg.model.backbone.init_cfg.checkpoint = str(checkpoint)
    with DefaultScope.overwrite_default_scope("mmdet"):
        detector = MODELS.build(cfg.model)
        detector.init_weights()
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    for name, param in detector.backbone.named_parameters():
        if not name.startswith("out_norms."):
            assert torch.equal(param, weights[f"backbone.{name}"]), name


@pytest.mark.slow
def test_missing_weights_are_a_sentence(tmp_path):
    options = [
        f"{split}_dataloader.dataset.make.num_{part}=2"
        for split in ("train", "val")
        for part in ("train", "val")
    ]
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        runs.run_here(
            *("train.py", runs.ROOT / "configs/demo/mask_rcnn_secvit_pretrained_demo.py"),
            *("--work-dir", tmp_path / "run", "--data-root", tmp_path / "digits"),
            *("--cfg-options", *options),
            f"model.backbone.init_cfg.checkpoint={tmp_path / 'nothing.pth'}",
        )


@pytest.mark.slow
def test_imagenet_config_trains_on_exported_digits(tmp_path):
    """With every augmentation, averaged weights, and a network at a size for tests."""
    from mmeffvit.demo_data.digits import ensure_digits

    make = {"num_train": 4, "num_val": 2, "image_size": 64}
    ensure_digits(tmp_path / "imagenet", layout="imagenet", workers=1, **make)
    config = tmp_path / "tiny.py"
    config.write_text(
        f"""
_base_ = {str(runs.ROOT / "configs/secvit/secvit-tiny_16xb128_in1k.py")!r}
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2),
            mlp_ratios=(2, 2, 2, 2), num_clusters=(8, 4, 2, -1), layer_scale=(None,) * 4)),
    head=dict(in_channels=16, hidden_channels=16))
train_dataloader = dict(batch_size=2, num_workers=0)
val_dataloader = dict(batch_size=2, num_workers=0)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1)
"""
    )
    arguments = ("--work-dir", tmp_path / "run", "--data-root", tmp_path / "imagenet")
    output = runs.run_here("train.py", config, *arguments)
    assert re.search(r"accuracy/top1: .*accuracy/top5: ", output)
    saved = torch.load(tmp_path / "run" / "epoch_1.pth", weights_only=True)
    assert "ema_state_dict" in saved

    with pytest.raises(LaunchError, match=r"tools/export_digits\.py --layout imagenet"):
        runs.run_here("train.py", config, "--data-root", tmp_path / "nothing")


def test_demo_without_labels_gives_its_backbone_to_the_classifier(tmp_path):
    options = [
        "train_dataloader.dataset.make.num_train=8",
        "train_dataloader.dataset.make.num_val=1",
        "train_dataloader.batch_size=4",
        "train_cfg.max_epochs=1",
        "default_hooks.logger.interval=1",
    ]
    arguments = ("--work-dir", tmp_path / "run", "--data-root", tmp_path / "digits")
    demo = "configs/demo/simmim_secvit_demo.py"
    output = runs.run("train.py", demo, *arguments, "--cfg-options", *options)
    losses = [float(loss) for loss in re.findall(r"\[1\]\[\d/2\].* loss: (\S+)", output)]
    assert len(losses) == 2
    assert all(0 < loss < 5 for loss in losses)

    weights = {"type": "Pretrained", "checkpoint": str(tmp_path / "run/epoch_1.pth")}
    classifier = build_backbone(DEMO, weights)
    saved = torch.load(tmp_path / "run/epoch_1.pth", weights_only=True)["state_dict"]
    assert "backbone.mask_token" in saved
    classifier.init_weights()
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, saved[f"backbone.{name}"]), name


def build_backbone(path, init_cfg):
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    cfg = Config.fromfile(runs.ROOT / path)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return MODELS.build({**cfg.model.backbone, "init_cfg": init_cfg})
