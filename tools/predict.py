#!/usr/bin/env python
"""Predict on your own images: boxes, masks, label maps or classes, as pictures and as files.

    python tools/predict.py CONFIG CHECKPOINT IMAGES... --out DIR

IMAGES are files, folders or patterns. DIR gets pictures/, and predictions.json in COCO's format
(detectors), labels/ with a PNG per image and classes.json (segmentors), or predictions.json with
the best classes (classifiers).
"""

import argparse
import sys
import time

from mmeffvit import compat


def parse_args(argv=None):
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="file, or upstream name such as mmdet::.../x.py")
    parser.add_argument("checkpoint", help="a .pth or .safetensors file")
    parser.add_argument("images", nargs="+", help="files, folders or patterns such as 'a/*.jpg'")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--batch-size", type=int, default=1, help="images at once (default: 1)")
    parser.add_argument(
        "--tiles",
        type=int,
        metavar="PIXELS",
        help="predict in tiles of this size and merge what they find, for large images; "
        "--batch-size then counts tiles",
    )
    parser.add_argument(
        "--overlap", type=float, default=0.2, help="of tiles, as a share of one (default: 0.2)"
    )
    parser.add_argument("--device", help="such as cpu or cuda:0 (default: a GPU if there is one)")
    parser.add_argument(
        "--score-thr",
        type=float,
        default=0.3,
        help="boxes that score less are left out (default: 0.3)",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help='override config entries: model.test_cfg.mode=whole key="[a,b]"',
    )
    args = parser.parse_args(argv)
    if args.batch_size < 1:
        parser.error(f"--batch-size must be at least 1, got {args.batch_size}")
    return args


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmengine.device import get_device

    from mmeffvit.engine import inference, launch, predictions, tiles

    cfg = launch.load_config(args.config)
    launch.apply_options(cfg, args.cfg_options)
    images = inference.find_images(args.images, outside=args.out)
    predictor = inference.Predictor(cfg, args.checkpoint, args.device or get_device())

    writer, failed, start, told = None, {}, time.monotonic(), 0.0
    names = predictions.name_outputs(images)
    runner = predictor
    if args.tiles is not None:

        def tell(path, done, count):
            nonlocal told
            if time.monotonic() - start - told >= 1:
                told = time.monotonic() - start
                print(f"{path}: {done} of {count} tiles", flush=True)

        runner = tiles.TiledPredictor(predictor, args.tiles, args.overlap, args.score_thr, tell)
    try:
        for done, (path, sample) in enumerate(runner.run(images, args.batch_size), 1):
            if isinstance(sample, Exception):
                failed.setdefault(type(sample), []).append(path)
                print(f"skipped: {sample}", file=sys.stderr)
            else:
                if writer is None:
                    writer = predictions.create_writer(
                        sample,
                        args.out,
                        predictor.metainfo,
                        names,
                        args.score_thr,
                        predictor.annotations,
                    )
                    if args.tiles is not None:
                        writer.largest_side = 2 * args.tiles
                writer.write(path, sample)
            elapsed = time.monotonic() - start
            if done == len(images) or elapsed - told >= 1:
                left, told = elapsed / done * (len(images) - done), elapsed
                print(f"[{done}/{len(images)}] {path}, about {left:.0f} s left", flush=True)
    finally:  # what is there is kept, also when somebody stops it
        if writer is not None:
            writer.close()
    if writer is not None:
        count = len(images) - sum(map(len, failed.values()))
        print(f"{count} images in {elapsed:.1f} s, results in {args.out}")
    for kind, paths in failed.items():
        refused = issubclass(kind, inference.RefusedImageError)
        what = "were not taken by the network" if refused else "could not be read"
        what = what.replace("were", "was") if len(paths) == 1 else what
        count = f"{len(paths)} image{'s' * (len(paths) > 1)}"
        listed = "\n  ".join(map(str, paths))
        print(f"error: {count} {what}:\n  {listed}", file=sys.stderr)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
