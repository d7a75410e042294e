"""Configs in pure Python, whose types are classes, in every tool."""

import json

import pytest
from mmengine.config import Config

from mmeffvit.engine import launch
from mmeffvit.engine.errors import LaunchError
from mmeffvit.swap import plan_swap, swap_backbone
from tests.tools import runs

BASE = """
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, Resize
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.evaluation import CocoMetric
from mmdet.visualization import DetLocalVisualizer
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, TestLoop, ValLoop
from torch.optim import AdamW

default_scope = None
default_hooks = dict(
    checkpoint=dict(type=CheckpointHook), visualization=dict(type=DetVisualizationHook))
visualizer = dict(type=DetLocalVisualizer)
pipeline = [dict(type=LoadImageFromFile), dict(type=Resize, scale=(96, 96), keep_ratio=True),
            dict(type=LoadAnnotations, with_bbox=True), dict(type=PackDetInputs)]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=CocoDataset, data_root='data', indices=2,
                 ann_file='annotations/instances_train2017.json',
                 data_prefix=dict(img='train2017/'), pipeline=pipeline))
val_dataloader = dict(
    num_workers=0, sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=CocoDataset, data_root='data', indices=2, test_mode=True,
                 ann_file='annotations/instances_val2017.json',
                 data_prefix=dict(img='val2017/'), pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(
    type=CocoMetric, metric='bbox', ann_file='data/annotations/instances_val2017.json')
test_evaluator = val_evaluator
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=1)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
optim_wrapper = dict(
    type=OptimWrapper, constructor=DefaultOptimWrapperConstructor,
    optimizer=dict(type=AdamW, lr=1e-3))
"""
MODEL = """
from mmengine.config import read_base

with read_base():
    from .base import *

from mmdet.models import FPN, DetDataPreprocessor, ResNet, RetinaHead, RetinaNet
from mmdet.models.losses import FocalLoss, L1Loss
from mmdet.models.task_modules import (
    AnchorGenerator, DeltaXYWHBBoxCoder, MaxIoUAssigner, PseudoSampler)

model = dict(
    type=RetinaNet,
    data_preprocessor=dict(type=DetDataPreprocessor, pad_size_divisor=32),
    backbone=dict(type=ResNet, depth=18, base_channels=16, out_indices=(1, 2, 3)),
    neck=dict(type=FPN, in_channels=[32, 64, 128], out_channels=16, num_outs=3),
    bbox_head=dict(
        type=RetinaHead, num_classes=80, in_channels=16, stacked_convs=1, feat_channels=16,
        anchor_generator=dict(
            type=AnchorGenerator, octave_base_scale=4, scales_per_octave=1, ratios=[1.0],
            strides=[8, 16, 32]),
        bbox_coder=dict(type=DeltaXYWHBBoxCoder),
        loss_cls=dict(type=FocalLoss), loss_bbox=dict(type=L1Loss)),
    train_cfg=dict(
        assigner=dict(type=MaxIoUAssigner, pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
        sampler=dict(type=PseudoSampler), allowed_border=-1, pos_weight=-1),
    test_cfg=dict(
        nms_pre=100, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5),
        max_per_img=5))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A config, digits, and a checkpoint of one epoch."""
    root = tmp_path_factory.mktemp("pure")
    (root / "base.py").write_text(BASE)
    (root / "pure.py").write_text(MODEL)
    runs.write_data(root / "data")
    with runs.main("train.py") as train:
        train(root / "pure.py", "--work-dir", root / "run", "--data-root", root / "data")
    return root


def test_is_read_as_text(root):
    cfg = launch.load_config(str(root / "pure.py"))
    assert cfg.default_scope == "mmdet"
    assert cfg.model.type == "mmdet.RetinaNet"
    assert cfg.optim_wrapper.constructor == "mmengine.DefaultOptimWrapperConstructor"
    assert "RetinaNet" not in cfg, "what is imported is no entry"


def test_trains_with_the_safety_hooks(root):
    written = Config.fromfile(root / "run" / "pure.py")
    assert written.default_hooks.checkpoint.type == "mmeffvit.SafeCheckpointHook"
    assert (root / "run" / "epoch_1.pth").is_file()


def test_what_a_run_has_written_is_read_again(root):
    one, two = (launch.load_config(str(root / folder / "pure.py")) for folder in (".", "run"))
    assert two.model == one.model
    assert two.optim_wrapper == one.optim_wrapper


def test_is_tested_and_drawn(root):
    arguments = (root / "run" / "epoch_1.pth", "--data-root", root / "data")
    with runs.main("test.py") as test:
        test(
            root / "pure.py",
            *arguments,
            *("--work-dir", root / "test", "--show-dir", root / "show", "--out", root / "p.pkl"),
        )
    assert (root / "p.pkl").is_file()
    assert (
        len(list((root / "show").rglob("*.jpg"))) + len(list((root / "show").rglob("*.png"))) == 2
    )


def test_is_tested_on_mirror_images_too(root, capfd):
    with runs.main("test.py") as test:
        test(
            root / "pure.py",
            root / "run" / "epoch_1.pth",
            *("--data-root", root / "data", "--work-dir", root / "tta", "--tta"),
        )
    assert "coco/bbox_mAP" in capfd.readouterr().out


def test_predicts(root):
    images = root / "data" / "val2017"
    with runs.main("predict.py") as predict:
        predict(root / "pure.py", root / "run" / "epoch_1.pth", images, "--out", root / "found")
    assert json.loads((root / "found" / "predictions.json").read_text())


def test_mixed_precision_is_understood(root, monkeypatch):
    cfg = launch.load_config(str(root / "pure.py"))
    launch.enable_amp(cfg)
    assert cfg.optim_wrapper.type == "AmpOptimWrapper"
    monkeypatch.setattr("mmeffvit.engine.environment.get_device", lambda: "cpu")
    with runs.main("train.py") as train, pytest.raises(LaunchError, match="needs an accelerator"):
        train(root / "pure.py", "--amp", "--data-root", root / "data")


def test_missing_data_is_named(root):
    with runs.main("train.py") as train, pytest.raises(LaunchError, match=r"nowhere.*is missing"):
        train(root / "pure.py", "--data-root", "nowhere")


@pytest.mark.slow
def test_what_a_swap_writes_trains(root):
    with runs.main("swap_backbone.py") as swap:
        swap(root / "pure.py", "--backbone", "rmt-tiny", "--out", root / "swapped.py")
    swapped = Config.fromfile(root / "swapped.py")
    assert swapped.model.backbone.type == "mmeffvit.RMT"
    assert swapped.model.neck.in_channels == [128, 256, 512]
    with runs.main("train.py") as train:
        train(root / "swapped.py", "--work-dir", root / "swap", "--data-root", root / "data")
    assert (root / "swap" / "epoch_1.pth").is_file()


def test_swapping_a_config_object(root):
    cfg = Config.fromfile(root / "pure.py")
    plan = plan_swap(cfg, "rmt-tiny")
    assert plan.apply(cfg).model == swap_backbone(cfg, "rmt-tiny").model


def test_measures(root, capsys):
    with runs.main("analysis/complexity.py") as complexity:
        complexity(root / "pure.py", "--shape", "96", "96")
    assert "MACs" in capsys.readouterr().out
