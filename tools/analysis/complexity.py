#!/usr/bin/env python
"""Parameters and MACs, attention counted, of a backbone or of the detector of a config.

python tools/analysis/complexity.py --backbone secvit-tiny
python tools/analysis/complexity.py --classifier secvit-tiny
python tools/analysis/complexity.py configs/mask_rcnn_secvit.py --shape 800 1344
"""

import argparse
import json
import sys

from mmeffvit import compat

IMAGENET_SHAPE = (224, 224)
# what the detection papers count on
COCO_SHAPE = (800, 1280)


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("config", nargs="?", help="config of an mmdet detector, file or mmdet::...")
    what.add_argument(
        "--backbone",
        metavar="NAME[:KEY=VALUE,...]",
        help="one of mmeffvit's, or scope.Class of a toolbox such as mmdet.SwinTransformer",
    )
    what.add_argument(
        "--classifier", metavar="NAME", help="a backbone of mmeffvit with its ImageNet classifier"
    )
    parser.add_argument(
        "--shape",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="input in pixels (default: {}x{} for backbones, {}x{} for configs)".format(
            *IMAGENET_SHAPE, *COCO_SHAPE
        ),
    )
    parser.add_argument(
        "--device",
        choices=("meta", "cpu"),
        default="meta",
        help="cpu computes values too, for networks that need them",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args(argv)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmeffvit.analysis.backbones import build_backbone, build_detector
    from mmeffvit.analysis.complexity import count_complexity, count_detector, format_table

    shape = tuple(args.shape or (COCO_SHAPE if args.config else IMAGENET_SHAPE))
    if args.config:
        model = build_detector(args.config)
        result = count_detector(model, shape, name=args.config, device=args.device)
    elif args.classifier:
        from mmeffvit.models.classifier import create_classifier

        model = create_classifier(args.classifier)
        result = count_complexity(model, shape, name=args.classifier, device=args.device)
    else:
        model = build_backbone(args.backbone)
        result = count_complexity(model, shape, name=args.backbone, device=args.device)
    print(json.dumps(result.to_dict(), indent=2) if args.json else format_table(result))


if __name__ == "__main__":
    from mmeffvit.engine.errors import LaunchError

    try:
        main()
    except (ValueError, LaunchError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
