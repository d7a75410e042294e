"""A detector that trains in seconds, and tools run as people run them."""

import importlib.util
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from mmengine.registry import DefaultScope

ROOT = Path(__file__).resolve().parents[2]

# The front door at a size for tests: digits in COCO's layout, six iterations in two epochs. Drop
# path stays on, and the RoI samplers draw at random.
CONFIG = f"""
_base_ = {str(ROOT / "configs" / "mask_rcnn_secvit.py")!r}

custom_imports = dict(imports=['tests.engine.toy'])
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.SecViT',
        arch=dict(
            embed_dims=(16, 16, 32, 32),
            depths=(1, 1, 1, 1),
            num_heads=(1, 1, 2, 2),
            mlp_ratios=(2, 2, 2, 2),
            num_clusters=(8, 4, 2, -1),
            layer_scale=(None, None, None, None),
        ),
        drop_path_rate=0.2,
    ),
    neck=dict(in_channels=[16, 16, 32, 32], out_channels=16),
    rpn_head=dict(
        in_channels=16, feat_channels=16, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(in_channels=16, num_convs=1, conv_out_channels=16)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=32)),
        rpn_proposal=dict(nms_pre=100, max_per_img=50),
        rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(
        rpn=dict(nms_pre=100, max_per_img=20),
        rcnn=dict(score_thr=0.0, max_per_img=5)))

no_augmentation = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(pipeline=no_augmentation, filter_cfg=dict(filter_empty_gt=False, min_size=1)))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4),
    dict(type='MultiStepLR', milestones=[1], gamma=0.5),
]
default_hooks = dict(logger=dict(interval=1))
"""


def write_config(folder: Path, extra: str = "", name: str = "tiny.py") -> str:
    """`extra` is appended: what it assigns counts."""
    path = folder / name
    path.write_text(CONFIG + extra)
    return str(path)


def write_data(folder: Path) -> str:
    """Digits in COCO's layout: six images to train on, two to validate."""
    from mmeffvit.demo_data.digits import ensure_digits

    ensure_digits(
        folder, num_train=6, num_val=2, image_size=96, max_digits=3, layout="coco", workers=1
    )
    return str(folder)


def load(tool: str):
    """A tool's file as a module."""
    spec = importlib.util.spec_from_file_location(f"tool_{Path(tool).stem}", ROOT / "tools" / tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def main(tool: str):
    """The main function of a tool, to be called with a list of arguments in this process.

    A Runner makes the scope of its config the default one of the process, and tools set LOCAL_RANK:
    both are undone.
    """
    module = load(tool)
    environment = dict(os.environ)
    try:
        with DefaultScope.overwrite_default_scope("mmengine"):
            yield lambda *arguments: module.main([str(argument) for argument in arguments])
    finally:
        os.environ.clear()
        os.environ.update(environment)


def run(*command, status=0, **environment):
    """Run a command in the repository root; what it printed, after checking how it ended.

    A tool's name stands for the tool run by this Python.
    """
    command = [str(part) for part in command]
    if command[0].endswith(".py"):
        command[:1] = [sys.executable, str(ROOT / "tools" / command[0])]
    env = {
        **os.environ,
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=250,
    )
    assert done.returncode == status, f"status {done.returncode}:\n{done.stdout[-6000:]}"
    return done.stdout
