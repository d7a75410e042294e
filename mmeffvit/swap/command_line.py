"""The command line that ``tools/train.py`` and ``tools/test.py`` share, a swap included."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config, DictAction

from mmeffvit.engine import data, launch
from mmeffvit.engine.launch import Notes
from mmeffvit.engine.preflight import preflight
from mmeffvit.files import whole_file
from mmeffvit.swap.api import RECIPES, swap_backbone
from mmeffvit.swap.changes import format_changes
from mmeffvit.swap.dataset import DATASET_RECIPES, set_dataset
from mmeffvit.swap.tuning import set_tuning


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
    group = parser.add_argument_group("train on your own data (docs/own_data.md)")
    group.add_argument(
        "--dataset",
        metavar="DIR",
        help="a folder in COCO's, YOLO's or Pascal VOC's layout, of images and label maps, or of "
        "a folder per class",
    )
    add_dataset_options(group)
    add_tuning_options(
        parser.add_argument_group("train few parameters of the backbone (docs/tuning.md)")
    )
    return parser


def rewrite_parser(description: str) -> argparse.ArgumentParser:
    """A parser of a tool that rewrites a config; what it rewrites is added by the tool."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "source",
        help="config file, or upstream name such as mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the new config here")
    return parser


def parse_rewrite(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse what `rewrite_parser` has begun."""
    args = parser.parse_args(argv)
    if args.out is not None and args.out.suffix != ".py":
        parser.error(f"--out writes a config in Python, so its name ends with .py; got {args.out}")
    return args


def write_rewritten(args: argparse.Namespace, cfg: Config, report: str) -> str:
    """Write a config if it was asked for; gives what there is to say, with what was done to it."""
    lines = [f"--- {args.source}", f"+++ {args.out or cfg.filename}", report]
    if args.out is not None:
        with whole_file(args.out) as scratch:
            cfg.dump(str(scratch))
        lines.append(f"written to {args.out}")
    return "\n".join(lines)


def add_dataset_options(group: argparse._ArgumentGroup) -> None:
    """Options of a data set beside its folder."""
    group.add_argument(
        "--dataset-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help='what the folder does not say itself: classes="[cat,dog]" train=FILE val=FILE '
        'layout=YOLO reduce_zero_label=True palette="[[0,0,0],[128,64,128]]" steps=2000',
    )


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


def add_tuning_options(group: argparse._ArgumentGroup) -> None:
    """Options that say which parameters of a backbone are trained."""
    one = group.add_mutually_exclusive_group()
    one.add_argument("--lora", type=int, metavar="RANK", help="low-rank adapters, such as 8")
    one.add_argument(
        "--adaptformer", type=int, metavar="DIM", help="AdaptFormer's adapters, such as 64"
    )
    one.add_argument("--freeze-backbone", action="store_true", help="no parameter at all")
    group.add_argument(
        "--tuning-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help='targets="[qkv,fc1]" alpha=16 dropout=0.1 of --lora; scale=0.1 of --adaptformer',
    )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse, and let the environment know the rank within this machine."""
    args = parser.parse_args(argv)
    recipes = _recipes(args)
    known = dict.fromkeys((*RECIPES, *DATASET_RECIPES))
    if not recipes <= set(known):
        parser.error(f"--recipe takes one or several of {', '.join(known)}, as in a,b")
    if args.tuning_options is not None and not _tunes(args):
        parser.error("--tuning-options needs --lora RANK or --adaptformer DIM")
    if args.backbone is None:
        given = [o for o in ("backbone_options", "where", "backbone_checkpoint") if _given(args, o)]
        given += ["recipe"] * bool(recipes - set(DATASET_RECIPES))
        if "where" in given and _tunes(args):
            given.remove("where")
        for option in given:
            parser.error(f"--{option.replace('_', '-')} needs --backbone NAME")
    if args.dataset is None:
        if args.dataset_options is not None:
            parser.error("--dataset-options needs --dataset DIR")
        if recipes & set(DATASET_RECIPES) - {"keep"}:
            parser.error("--recipe small-data needs --dataset DIR")
    elif args.data_root is not None:
        parser.error("--dataset says where the data lies; leave --data-root out")
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def check_data(args: argparse.Namespace, cfg: Config, splits: Sequence[str]) -> Notes:
    """Check the data of a launch as far as its command line asks for it; notes for the log."""
    if not args.no_preflight:
        return preflight(cfg, splits)
    data.check_data(cfg, splits)
    return []


def _recipes(args: argparse.Namespace) -> set[str]:
    return set((getattr(args, "recipe", None) or "keep").split(","))


def _tunes(args: argparse.Namespace) -> bool:
    return args.lora is not None or args.adaptformer is not None or args.freeze_backbone


def _given(args: argparse.Namespace, option: str) -> bool:
    return getattr(args, option, None) is not None


def load_config(args: argparse.Namespace) -> Config:
    """The config of a launch: read, backbone and data set, options applied, work directory set."""
    cfg = launch.load_config(args.config)
    if args.backbone is not None:
        cfg = swap_backbone(
            cfg,
            args.backbone,
            recipe="adamw" if "adamw" in _recipes(args) else "keep",
            checkpoint=getattr(args, "backbone_checkpoint", None),
            where=args.where,
            **(args.backbone_options or {}),
        )
    if args.dataset is not None:
        recipe = "small-data" if "small-data" in _recipes(args) else "keep"
        cfg = set_dataset(cfg, args.dataset, **{"recipe": recipe, **(args.dataset_options or {})})
    if _tunes(args):
        cfg = set_tuning(
            cfg,
            lora=args.lora,
            adaptformer=args.adaptformer,
            frozen=args.freeze_backbone,
            where=args.where,
            **(args.tuning_options or {}),
        )
    cfg.launcher = args.launcher
    launch.apply_options(cfg, args.cfg_options, args.data_root)
    launch.set_work_dir(cfg, args.work_dir)
    return cfg


def tuning_report(cfg: Config) -> str:
    """What `set_tuning` has to say, as people read it; '' if it was not asked."""
    report = cfg.get("tuning")
    if report is None or os.environ.get("RANK", "0") != "0":
        return ""
    lines = [f"tuning: {report.method}", *(f"note: {note}" for note in report.notes)]
    return "\n".join(lines) + "\n"


def dataset_report(cfg: Config) -> str:
    """What `set_dataset` has found and done, as people read it; '' if it was not asked."""
    report = cfg.get("dataset_swap")
    if report is None or os.environ.get("RANK", "0") != "0":
        return ""
    changes = format_changes(report.changes)
    return "\n".join([f"data: {report.data}", *(f"note: {note}" for note in report.notes), changes])
