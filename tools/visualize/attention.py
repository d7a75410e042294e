#!/usr/bin/env python
"""Draw what the attention operators of a backbone do on images.

    python tools/visualize/attention.py --backbone secvit-tiny
    python tools/visualize/attention.py street.jpg --backbone ssvit-tiny --stages 0 --blocks 0 1
    python tools/visualize/attention.py street.jpg --backbone configs/mask_rcnn_secvit.py \\
        --checkpoint work_dirs/mask_rcnn_secvit/epoch_12.pth --query 200 310 --out street.png

SECMixer: clusters. S3AMixer: what each step of the sparse scan reads. MaSAMixer: decay around the
query. RALAMixer: token weights. All, and every other mixer: attention of the query per head. With
--features: the backbone's outputs as colours.
"""

import argparse
import sys
from pathlib import Path

import torch

from mmeffvit import compat

_OUT = Path("work_dirs/attention")
_SUFFIXES = (".png", ".jpg", ".jpeg")


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="files, or scikit-image's photographs by name: chelsea, astronaut, coffee, rocket "
        "(default: these four)",
    )
    parser.add_argument(
        "--backbone",
        required=True,
        metavar="NAME|CONFIG",
        help="a name such as secvit-tiny, also with arguments (NAME:KEY=VALUE,...) and as "
        "scope.Class of a toolbox, or a config (.py, or mmdet::...) whose backbone is taken",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="weights of the backbone, or of a model that holds it (default: random weights)",
    )
    parser.add_argument("--stages", type=int, nargs="+", help="from 0 (default: all)")
    parser.add_argument(
        "--blocks",
        type=int,
        nargs="+",
        default=(-1,),
        help="of each stage, from 0, or from the last if negative (default: the last)",
    )
    parser.add_argument(
        "--heads", type=int, nargs="+", help="from 0 (default: four at most, spread evenly)"
    )
    parser.add_argument(
        "--query",
        type=int,
        nargs=2,
        metavar=("Y", "X"),
        help="pixel of the image whose attention is drawn (default: the centre)",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="input of the network (default: the image's proportions, shorter side 224)",
    )
    parser.add_argument(
        "--neck",
        action="store_true",
        help="draw the attention across scales of the config's neck instead of the backbone's",
    )
    parser.add_argument(
        "--features", action="store_true", help="draw the outputs of the stages as colours instead"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--out",
        type=Path,
        default=_OUT,
        metavar="FILE|DIR",
        help=f"a .png or .jpg for a single image, or a folder (default: {_OUT})",
    )
    args = parser.parse_args(argv)
    if args.neck and not args.backbone.endswith(".py"):
        parser.error(f"--neck is for a config (.py), whose neck it draws; got {args.backbone}")
    if args.neck and (args.features or args.stages):
        parser.error("--neck draws all maps that the neck mixes; leave --features and --stages out")
    if args.out.suffix.lower() in _SUFFIXES:
        if len(args.images) != 1:
            parser.error(f"--out {args.out} is one file; give one image, or a folder")
    elif args.out.suffix and not args.out.is_dir():
        parser.error(f"--out {args.out} is neither a folder nor one of {', '.join(_SUFFIXES)}")
    return args


def build(spec):
    """A config's model, or a backbone by name, with random weights that are always the same."""
    from mmeffvit.analysis.backbones import build_backbone, build_detector

    torch.manual_seed(0)
    return build_detector(spec) if spec.endswith(".py") else build_backbone(spec)


def name_of(spec):
    """What a spec is called in titles and file names."""
    return Path(spec).stem if spec.endswith(".py") else spec.partition(":")[0]


def main(argv=None):
    args = parse_args(argv)
    compat.setup()
    from mmeffvit.checkpoint import load_weights, read_checkpoint
    from mmeffvit.visualization.attention import (
        draw_attention,
        draw_features,
        example_photographs,
        find_image,
        read_image,
    )
    from mmeffvit.visualization.files import save_picture

    # before the network is built, so that a wrong name does not cost time
    paths = [find_image(name) for name in args.images] or example_photographs()
    images = {path: read_image(path) for path in paths}
    model, weights = build(args.backbone), None
    backbone = getattr(model, "backbone", model)
    if args.checkpoint is not None:
        report = load_weights(model if args.neck else backbone, read_checkpoint(args.checkpoint))
        print(f"{args.checkpoint}: {report}")
        weights = args.checkpoint.name
    model.to(args.device)
    options = {"size": args.size and tuple(args.size), "stages": args.stages, "weights": weights}
    if args.features:
        draw, kind = draw_features, "features"
    else:
        draw, kind = draw_attention, "attention"
        options |= {"blocks": args.blocks, "heads": args.heads, "query": args.query}
        options["neck"] = model.neck if args.neck else None
    name = name_of(args.backbone)
    for number, (path, image) in enumerate(images.items(), 1):
        figure = draw(backbone, image, title=f"{name} on {path.name}", **options)
        if args.out.suffix.lower() in _SUFFIXES:
            out = args.out
        else:
            out = args.out / f"{path.stem}_{name}_{kind}.png"
        save_picture(figure, out)
        print(f"[{number}/{len(images)}] {out}", flush=True)


if __name__ == "__main__":
    from mmeffvit.checkpoint import CheckpointError
    from mmeffvit.engine.errors import LaunchError

    try:
        main()
    except (ValueError, FileNotFoundError, CheckpointError, LaunchError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
