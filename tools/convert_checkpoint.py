"""Convert an official checkpoint to one that this package and the toolboxes read.

    python tools/convert_checkpoint.py secvit SecViT_T.pth secvit-tiny.safetensors
    python tools/convert_checkpoint.py --model CONFIG FILE mask-rcnn.pth

The first takes a classifier, or the backbone of a detector; the second, a whole detector or
segmentor of mmdet 2 or 3, or mmseg 0.x or 1.x, to the model of a config. Prints what was converted,
from which entry of the file, and what was left out; loads the result, or compares it with every
tensor of the model, before anything is written. A file that does not fit is refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmeffvit import compat
from mmeffvit.checkpoint import (
    CheckpointError,
    convert_official,
    convert_whole,
    read_checkpoint,
    write_checkpoint,
)
from mmeffvit.checkpoint.convert import convertible_classes
from mmeffvit.checkpoint.load import check_by_loading


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    families = list(convertible_classes())
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [-h] [--overwrite] FAMILY SOURCE TARGET\n"
        "       %(prog)s [-h] [--overwrite] [--keys] --model CONFIG SOURCE [TARGET]",
    )
    parser.add_argument(
        "given",
        nargs="+",
        metavar="FAMILY SOURCE TARGET",
        help=f"family ({', '.join(families)}), but not with --model; the authors' file; a new "
        ".safetensors or .pth file, with --model by default SOURCE-converted.pth",
    )
    parser.add_argument("--model", metavar="CONFIG", help="convert the whole model of a config")
    parser.add_argument("--keys", action="store_true", help="with --model: name every key")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing target")
    args = parser.parse_args(arguments)
    args.family = None if args.model else args.given.pop(0)
    if args.family not in (None, *families):
        parser.error(f"'{args.family}' is no family with known files: {', '.join(families)}")
    if len(args.given) not in ((1, 2) if args.model else (2,)):
        parser.error("SOURCE and TARGET are needed, and nothing else")
    args.source = Path(args.given[0])
    args.target = Path(args.given[-1])
    if len(args.given) == 1:
        args.target = args.source.with_name(f"{args.source.stem}-converted.pth")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    compat.setup()
    if args.target.exists() and not args.overwrite:
        print(f"'{args.target}' exists; choose another name or add --overwrite", file=sys.stderr)
        return 2
    try:
        checkpoint = read_checkpoint(args.source)
        (convert_model if args.model else convert_network)(args, checkpoint)
    except (CheckpointError, FileNotFoundError) as error:
        print(f"not converted: {error}", file=sys.stderr)
        return 1
    return 0


def convert_network(args: argparse.Namespace, checkpoint: dict) -> None:
    """A classifier, or the backbone of a detector."""
    conversion = convert_official(checkpoint, args.family)
    print(conversion)
    print(check_by_loading(conversion))
    metadata = {
        "family": conversion.family,
        "variant": str(conversion.variant),
        "source": args.source.name,
        "entry": conversion.container,
    }
    write_checkpoint(conversion.state_dict, args.target, metadata)
    print(f"written to {args.target}")
    print(
        f"use it with init_cfg=dict(type='Pretrained', checkpoint='{args.target}', "
        f"prefix='{convertible_classes()[args.family].prefix}')"
    )


def convert_model(args: argparse.Namespace, checkpoint: dict) -> None:
    """A whole detector or segmentor."""
    from mmeffvit.engine.launch import LaunchError, load_config

    try:
        config = load_config(args.model)
    except LaunchError as error:
        raise CheckpointError(str(error)) from error
    conversion = convert_whole(checkpoint, config)
    print(conversion)
    if args.keys:
        print(conversion.every_key())
    metadata = {
        "config": Path(args.model).name,
        "source": args.source.name,
        "entry": conversion.container,
    }
    write_checkpoint(conversion.state_dict, args.target, metadata)
    print(f"written to {args.target}")
    print(f"use it with tools/test.py {args.model} {args.target}, or as load_from")


if __name__ == "__main__":
    sys.exit(main())
