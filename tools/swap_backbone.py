#!/usr/bin/env python
"""Put one of our backbones into a config of mmdet or mmseg.

``python tools/swap_backbone.py mmdet::retinanet/retinanet_r50_fpn_1x_coco.py --backbone rmt-tiny
--out retinanet_rmt-tiny.py`` prints what it changed and why, and writes a config that stands alone.
"""

from mmeffvit import compat


def parse_args(argv=None):
    from mmeffvit.swap import RECIPES, command_line

    parser = command_line.rewrite_parser(__doc__.splitlines()[0])
    parser.add_argument("--backbone", required=True, metavar="NAME", help="such as rmt-tiny")
    parser.add_argument("--checkpoint", metavar="NAME|FILE", help="weights of the backbone")
    parser.add_argument(
        "--recipe", choices=RECIPES, default="keep", help="keep the optimizer, or set AdamW"
    )
    command_line.add_swap_options(parser)
    return command_line.parse_rewrite(parser, argv)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmeffvit.swap import command_line, format_changes, swap_backbone

    cfg = swap_backbone(
        args.source,
        args.backbone,
        recipe=args.recipe,
        checkpoint=args.checkpoint,
        where=args.where,
        **(args.backbone_options or {}),
    )
    report = cfg.backbone_swap
    lines = [format_changes(report.changes), *(f"note: {n}" for n in report.get("notes", ()))]
    print(command_line.write_rewritten(args, cfg, "\n".join(lines)))


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
