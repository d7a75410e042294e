"""The command line that ``tools/train.py`` and ``tools/test.py`` share, a swap included."""

import argparse
import os
from collections.abc import Sequence

from mmengine.config import Config, DictAction

from mmeffvit.engine import data, launch
from mmeffvit.engine.launch import Notes
from mmeffvit.engine.preflight import preflight
from mmeffvit.swap.api import swap_backbone


def launch_parser(description: str, option: str) -> argparse.ArgumentParser:
    """A parser with what every launch takes; the tool adds its own.

    Args:
        description: What the tool does.
        option: An example for ``--cfg-options``.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "config",
        help="file, or upstream name such as mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
    )
    parser.add_argument("--work-dir", help="logs and results go here; default work_dirs/<config>")
    parser.add_argument("--data-root", metavar="DIR", help="where all datasets of the config lie")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help=f'override config entries: {option} key="[a,b]" key="[(a,b),(c,d)]"',
    )
    parser.add_argument(
        "--no-preflight",
        action="store_true",
        help="do not check before the start whether the data fits the config",
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    # torch.distributed.launch passes this one
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    group = parser.add_argument_group("swap the backbone (docs/swap_a_backbone.md)")
    group.add_argument("--backbone", metavar="NAME", help="such as rmt-tiny")
    add_swap_options(group)
    return parser


def add_swap_options(group: argparse._ArgumentGroup) -> None:
    """Options of a swap beside the backbone's name."""
    group.add_argument(
        "--backbone-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="arguments of the backbone: drop_path_rate=0.2 with_cp=True",
    )
    group.add_argument(
        "--where", metavar="PATH", help="which backbone, if there are several: reid.backbone"
    )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse, and let the environment know the rank within this machine."""
    args = parser.parse_args(argv)
    if args.backbone is None:
        for option in ("backbone_options", "where", "recipe", "backbone_checkpoint"):
            if getattr(args, option, None) is not None:
                parser.error(f"--{option.replace('_', '-')} needs --backbone NAME")
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def check_data(args: argparse.Namespace, cfg: Config, splits: Sequence[str]) -> Notes:
    """Check the data of a launch as far as its command line asks for it; notes for the log."""
    if not args.no_preflight:
        return preflight(cfg, splits)
    data.check_data(cfg, splits)
    return []


def load_config(args: argparse.Namespace) -> Config:
    """The config of a launch: read, backbone swapped, options applied, work directory set."""
    cfg = launch.load_config(args.config)
    if args.backbone is not None:
        cfg = swap_backbone(
            cfg,
            args.backbone,
            recipe=getattr(args, "recipe", None) or "keep",
            checkpoint=getattr(args, "backbone_checkpoint", None),
            where=args.where,
            **(args.backbone_options or {}),
        )
    cfg.launcher = args.launcher
    launch.apply_options(cfg, args.cfg_options, args.data_root)
    launch.set_work_dir(cfg, args.work_dir)
    return cfg
