#!/usr/bin/env python
"""Train a model from a config: ``python tools/train.py CONFIG [--work-dir DIR] [--resume] ...``"""

import argparse
import os

from mmeffvit import compat


def parse_args(argv=None):
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description="Train a model from a config.")
    parser.add_argument(
        "config",
        help="file, or upstream name such as mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
    )
    parser.add_argument(
        "--work-dir", help="logs and checkpoints go here; default work_dirs/<config>"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|PATH",
        help="resume from a checkpoint, or without a value from the last whole one in the work dir",
    )
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision (CUDA)")
    parser.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate with the batch size"
    )
    parser.add_argument("--data-root", metavar="DIR", help="where all datasets of the config lie")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help='override config entries: train_cfg.max_epochs=1 key="[a,b]" key="[(a,b),(c,d)]"',
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    # torch.distributed.launch passes this one
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    args = parser.parse_args(argv)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmeffvit.engine import data, environment, launch, resume

    cfg = launch.load_config(args.config)
    cfg.launcher = args.launcher
    launch.apply_options(cfg, args.cfg_options, args.data_root)
    launch.set_work_dir(cfg, args.work_dir)
    if args.amp:
        launch.enable_amp(cfg)
    if args.auto_scale_lr:
        launch.enable_auto_scale_lr(cfg)

    data.check_data(cfg, ("train", "val"))
    notes = [
        *environment.fit_to_device(cfg),
        *launch.add_safety_hooks(cfg),
        *resume.set_resume(cfg, args.resume),
        *launch.set_seed(cfg),
    ]
    launch.build_runner(cfg, notes).train()


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
