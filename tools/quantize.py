#!/usr/bin/env python
"""Quantise a model that tools/export.py wrote to 8-bit integers, and say what that changes.

    python tools/quantize.py model.onnx --images DIR --out model_int8.onnx
    python tools/quantize.py model.onnx --images DIR --out model_int8.onnx --evaluate CONFIG

Ranges of activations come from your images: a hundred that look like those to come. What is found
by both files is compared on the last of them; with --evaluate, the metrics of a config score both
files on its test set. Needs the extra 'onnx'.
"""

import argparse
import sys
import time
from pathlib import Path

from mmeffvit import compat


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a .onnx file of tools/export.py")
    parser.add_argument("--out", type=Path, required=True, help="the new .onnx file")
    parser.add_argument("--images", nargs="+", required=True, help="files, folders or patterns")
    parser.add_argument(
        "--count", type=int, default=100, help="images to calibrate on, at most (default: 100)"
    )
    parser.add_argument(
        "--keep",
        nargs="+",
        default=(),
        metavar="PATTERN",
        help="modules that stay in float32: regular expressions, such as head.conv_seg",
    )
    parser.add_argument("--evaluate", metavar="CONFIG", help="score both files on its test set")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    return parser.parse_args(argv)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    if args.out.exists() and not args.overwrite:
        sys.exit(f"'{args.out}' exists; choose another name or add --overwrite")
    from mmeffvit import deploy
    from mmeffvit.deploy.evaluation import evaluate
    from mmeffvit.engine import launch
    from mmeffvit.engine.inference import find_images
    from mmeffvit.runtime import OnnxModel, read_image

    before = OnnxModel(args.model, threads=1)
    paths = find_images(args.images)[: args.count]
    start = time.monotonic()
    try:
        kept = deploy.quantize(
            args.model,
            args.out,
            (before.prepare(read_image(path)) for path in paths),
            keep=args.keep,
        )
    except (deploy.ExportError, ValueError) as error:
        sys.exit(f"not quantised: {error}")
    print(f"calibrated on {len(paths)} images in {time.monotonic() - start:.0f} s")
    if kept:
        print(f"in float32: {', '.join(kept)}")
    after = OnnxModel(args.out, threads=1)
    sizes = [path.stat().st_size / 2**20 for path in (args.model, args.out)]
    print(f"size: {sizes[0]:.2f} -> {sizes[1]:.2f} MiB")
    images = [before.prepare(read_image(path)) for path in paths[-10:]]
    print(deploy.liken(before, after, images))
    if args.evaluate:
        cfg = launch.load_config(args.evaluate)
        for name, model in (("before", before), ("after", after)):
            scores = ", ".join(f"{k} {v:.4g}" for k, v in evaluate(model, cfg).items())
            print(f"{name}: {scores}")
    print(f"written to {args.out}")


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
