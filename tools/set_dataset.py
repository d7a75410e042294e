#!/usr/bin/env python
"""Put a folder of your data into a config of mmdet, mmseg or mmpretrain.

``python tools/set_dataset.py mmdet::retinanet/retinanet_r50_fpn_1x_coco.py DIR --out mine.py``
prints what lies in the folder, what was changed and why, and writes a config that stands alone.
"""

from mmeffvit import compat


def parse_args(argv=None):
    from mmeffvit.swap import DATASET_RECIPES, command_line

    parser = command_line.rewrite_parser(__doc__.splitlines()[0])
    parser.add_argument("data", metavar="DIR", help="the folder")
    parser.add_argument(
        "--recipe",
        choices=DATASET_RECIPES,
        default="keep",
        help="keep batches and schedule, or fit them to the number of images",
    )
    command_line.add_dataset_options(parser)
    return command_line.parse_rewrite(parser, argv)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmeffvit.swap import command_line, set_dataset

    cfg = set_dataset(
        args.source, args.data, **{"recipe": args.recipe, **(args.dataset_options or {})}
    )
    print(command_line.write_rewritten(args, cfg, command_line.dataset_report(cfg)))


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
