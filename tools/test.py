#!/usr/bin/env python
"""Evaluate a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [--show-dir DIR] ...``"""

import argparse
import os

from mmeffvit import compat


def parse_args(argv=None):
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description="Evaluate a checkpoint.")
    parser.add_argument("config", help="file, or upstream name such as mmdet::.../x.py")
    parser.add_argument("checkpoint", help="a .pth or .safetensors file")
    parser.add_argument("--work-dir", help="metrics and logs go here; default work_dirs/<config>")
    parser.add_argument(
        "--out",
        metavar="FILE.pkl|DIR",
        help="write all predictions to a pickle file, or those of a segmentor to a folder, as PNG",
    )
    parser.add_argument("--show-dir", metavar="DIR", help="draw every image's predictions into DIR")
    parser.add_argument("--data-root", metavar="DIR", help="where all datasets of the config lie")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help='override config entries: test_dataloader.batch_size=4 key="[a,b]"',
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
    from mmeffvit.engine import data, environment, evaluation, launch

    cfg = launch.load_config(args.config)
    cfg.launcher = args.launcher
    launch.apply_options(cfg, args.cfg_options, args.data_root)
    launch.set_work_dir(cfg, args.work_dir)
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.show_dir is not None:
        evaluation.draw_predictions(cfg, args.show_dir)
    if args.out is not None:
        evaluation.dump_predictions(cfg, args.out)

    data.check_data(cfg, ["test"])
    notes = environment.fit_to_device(cfg, training=False)
    runner = launch.build_runner(cfg, notes)
    evaluation.check_weights(runner.model, args.checkpoint)
    runner.test()


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
