"""A detector that trains in seconds, and tools run as people run them."""

import importlib.util
import io
import os
import runpy
import subprocess
import sys
import tempfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from tests import processes

ROOT = processes.ROOT

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
    _forget_runs()
    environment = dict(os.environ)
    try:
        with DefaultScope.overwrite_default_scope("mmengine"):
            yield lambda *arguments: module.main([str(argument) for argument in arguments])
    finally:
        os.environ.clear()
        os.environ.update(environment)


def _forget_runs():
    """Forget the loggers and visualizers of mmengine's that earlier runs have left.

    They have names, which tell runs of one second not apart, and the work directory and the output
    of the run that made them.
    """
    kinds = [MMLogger, Visualizer]
    for kind in kinds:
        kinds += kind.__subclasses__()
        kind._instance_dict.clear()


def run_here(tool: str, *arguments) -> str:
    """Run a tool in this process; what it printed. `run` is for what ends a process."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed), main(tool) as function:
        function(*arguments)
    return printed.getvalue()


def run(*command, status=0, fresh=False, **environment):
    """Run a command in the repository root; what it printed, after checking how it ended.

    A tool's name, or ``-m`` and a module's, stands for what this Python runs: in a process of its
    own that has imported the stack already, or with `fresh` a tool in a new interpreter, as people
    run it.
    """
    command = [str(part) for part in command]
    env = {
        **os.environ,
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    if command[0].endswith(".py"):
        command[0] = str(ROOT / "tools" / command[0])
        start = _start if fresh else _fork
    else:
        start = _fork if command[0] == "-m" else _start
    with tempfile.NamedTemporaryFile() as printed:
        ended = start(command, env, printed.name)
        output = printed.read().decode()
    assert ended == status, f"status {ended}:\n{output[-6000:]}"
    return output


def _start(command, env, printed):
    if command[0].endswith(".py"):
        command = [sys.executable, *command]
    with open(printed, "wb") as file:
        return subprocess.run(
            command, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT, timeout=250
        ).returncode


def _fork(command, env, printed):
    return processes.call(_become, command, env, printed, timeout=250)


def _become(command, env, printed):
    """Turn a process that has imported the stack into one that runs a tool's file, or a module."""
    with open(printed, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # pytest has put others in their places
    sys.stdout, sys.stderr = (os.fdopen(fd, "w", 1, closefd=False) for fd in (1, 2))
    _forget_runs()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(ROOT)
    torch.set_num_threads(1)
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        return
    sys.argv = command
    sys.path[0] = str(Path(command[0]).parent)
    runpy.run_path(command[0], run_name="__main__")
