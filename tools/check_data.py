#!/usr/bin/env python
"""Check whether data fits a config, without training: ``python tools/check_data.py CONFIG``

Prints all that the checks before training see. With ``--out sheet.png`` it draws samples with their
labels: a look at the sheet finds what no check can.
"""

import time

from mmeffvit import compat


def parse_args(argv=None):
    from mmeffvit.swap import command_line

    parser = command_line.launch_parser(
        "Check whether the data fits a config.", "data_root=data/mine"
    )
    parser.add_argument(
        "--splits",
        nargs="+",
        choices=["train", "val", "test"],
        default=["train", "val", "test"],
        help="what is checked; the first one is drawn (default: train val test)",
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=200,
        metavar="N",
        help="images, label maps or clouds of each data set that are opened (default: 200)",
    )
    parser.add_argument("--out", metavar="FILE", help="draw samples with their labels: sheet.png")
    parser.add_argument(
        "--number", type=int, default=8, metavar="N", help="samples on the sheet (default: 8)"
    )
    return command_line.parse(parser, argv)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmeffvit.engine import data, preflight
    from mmeffvit.swap import command_line

    cfg = command_line.load_config(args)
    splits = [split for split in args.splits if cfg.get(f"{split}_dataloader")]
    data.check_data(cfg, splits)
    start = time.monotonic()
    findings = preflight.find_problems(cfg, splits, args.sample)
    for finding in findings:
        print(f"{finding.level}: {finding}")
    errors = sum(finding.level == "error" for finding in findings)
    print(
        f"{errors} errors and {len(findings) - errors} warnings in {', '.join(splits)}, "
        f"{time.monotonic() - start:.1f} s"
    )
    if args.out is not None:
        _draw(cfg, splits[0], args)
    return 1 if errors else 0


def _draw(cfg, split, args):
    from mmeffvit.engine.labelled import load_labelled
    from mmeffvit.visualization.files import save_picture
    from mmeffvit.visualization.label_sheet import draw_label_sheet

    samples, metainfo = load_labelled(cfg, split, args.number)
    title = f"{len(samples)} samples of {split}, as they are labelled"
    save_picture(draw_label_sheet(samples, metainfo, title, str(args.config)), args.out)
    print(f"drawn in {args.out}")


if __name__ == "__main__":
    import sys

    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(lambda: sys.exit(main()))
