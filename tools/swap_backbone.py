#!/usr/bin/env python
"""Put one of our backbones into a config of mmdet or mmseg.

``python tools/swap_backbone.py mmdet::retinanet/retinanet_r50_fpn_1x_coco.py --backbone rmt-tiny
--out retinanet_rmt-tiny.py`` prints what it changed and why, and writes a config that stands alone.
"""

import argparse
from pathlib import Path

from mmeffvit import compat
from mmeffvit.files import whole_file


def parse_args(argv=None):
    from mmeffvit.swap import RECIPES
    from mmeffvit.swap.command_line import add_swap_options

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "source",
        help="config file, or upstream name such as mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
    )
    parser.add_argument("--backbone", required=True, metavar="NAME", help="such as rmt-tiny")
    parser.add_argument("--checkpoint", metavar="NAME|FILE", help="weights of the backbone")
    parser.add_argument(
        "--recipe", choices=RECIPES, default="keep", help="keep the optimizer, or set AdamW"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the new config here")
    add_swap_options(parser)
    args = parser.parse_args(argv)
    if args.out is not None and args.out.suffix != ".py":
        parser.error(f"--out writes a config in Python, so its name ends with .py; got {args.out}")
    return args


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmeffvit.swap import format_changes, swap_backbone

    cfg = swap_backbone(
        args.source,
        args.backbone,
        recipe=args.recipe,
        checkpoint=args.checkpoint,
        where=args.where,
        **(args.backbone_options or {}),
    )
    print(f"--- {args.source}\n+++ {args.out or cfg.filename}")
    print(format_changes(cfg.backbone_swap.changes))
    for note in cfg.backbone_swap.get("notes", ()):
        print(f"note: {note}")
    if args.out is not None:
        with whole_file(args.out) as scratch:
            cfg.dump(str(scratch))
        print(f"written to {args.out}")


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
