#!/usr/bin/env python
"""Put a folder of your data into a config of mmdet, mmseg or mmpretrain.

``python tools/set_dataset.py mmdet::retinanet/retinanet_r50_fpn_1x_coco.py DIR --out mine.py``
prints what lies in the folder, what was changed and why, and writes a config that stands alone.
"""

import argparse
from pathlib import Path

from mmeffvit import compat
from mmeffvit.files import whole_file


def parse_args(argv=None):
    from mmeffvit.swap import DATASET_RECIPES
    from mmeffvit.swap.command_line import add_dataset_options

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "source",
        help="config file, or upstream name such as mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
    )
    parser.add_argument("data", metavar="DIR", help="the folder")
    parser.add_argument(
        "--recipe",
        choices=DATASET_RECIPES,
        default="keep",
        help="keep batches and schedule, or fit them to the number of images",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the new config here")
    add_dataset_options(parser)
    args = parser.parse_args(argv)
    if args.out is not None and args.out.suffix != ".py":
        parser.error(f"--out writes a config in Python, so its name ends with .py; got {args.out}")
    return args


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmeffvit.swap import set_dataset
    from mmeffvit.swap.command_line import dataset_report

    cfg = set_dataset(args.source, args.data, recipe=args.recipe, **(args.dataset_options or {}))
    print(f"--- {args.source}\n+++ {args.out or cfg.filename}")
    print(dataset_report(cfg))
    if args.out is not None:
        with whole_file(args.out) as scratch:
            cfg.dump(str(scratch))
        print(f"written to {args.out}")


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
