#!/usr/bin/env python
"""Predict on your own images or point clouds, as pictures and as files for programs.

    python tools/predict.py CONFIG CHECKPOINT IMAGES... --out DIR

IMAGES are files, folders or patterns: of images, or of rooms or LiDAR sweeps, as the config has it.
DIR gets pictures/, and predictions.json in COCO's format (detectors), labels/ with a PNG per image
and classes.json (segmentors), or predictions.json with the best classes (classifiers); of rooms
labels/ with a class per point (.npy), of sweeps predictions.json with boxes in space.
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
    parser.add_argument("checkpoint", help="a .pth or .safetensors file, or mmeffvit://NAME")
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


def on_clouds(args, cfg, device):
    """What to predict on, the results as they come, and what makes the writer of them."""
    from mmeffvit.engine import cloud_predictions, clouds, predictions
    from mmeffvit.engine.errors import LaunchError

    if args.tiles is not None:
        raise LaunchError("--tiles is for large images, and the config reads point clouds.")
    paths = clouds.find_clouds(cfg, args.images, outside=args.out)
    predictor = clouds.CloudPredictor(
        cfg, args.checkpoint, device, lambda text: print(f"warning: {text}", file=sys.stderr)
    )
    names = predictions.name_outputs(paths)

    def create_writer(sample):
        return cloud_predictions.create_cloud_writer(
            sample, args.out, predictor.metainfo, names, args.score_thr
        )

    return predictor.noun, paths, predictor.run(paths), create_writer


def on_images(args, cfg, device):
    """As `on_clouds`."""
    from mmeffvit.engine import inference, predictions, tiles

    paths = inference.find_images(args.images, outside=args.out)
    predictor = runner = inference.Predictor(cfg, args.checkpoint, device)
    names = predictions.name_outputs(paths)
    if args.tiles is not None:
        told = time.monotonic()

        def tell(path, done, count):
            nonlocal told
            if time.monotonic() - told >= 1:
                told = time.monotonic()
                print(f"{path}: {done} of {count} tiles", flush=True)

        runner = tiles.TiledPredictor(predictor, args.tiles, args.overlap, args.score_thr, tell)

    def create_writer(sample):
        writer = predictions.create_writer(
            sample, args.out, predictor.metainfo, names, args.score_thr, predictor.annotations
        )
        if args.tiles is not None:
            writer.largest_side = 2 * args.tiles
        return writer

    return "image", paths, runner.run(paths, args.batch_size), create_writer


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmengine.device import get_device

    from mmeffvit.checkpoint.by_name import local_file
    from mmeffvit.engine import clouds, launch
    from mmeffvit.engine.inference import RefusedImageError

    args.checkpoint = local_file(args.checkpoint)
    cfg = launch.load_config(args.config)
    launch.apply_options(cfg, args.cfg_options)
    prepare = on_clouds if clouds.reads_clouds(cfg) else on_images
    noun, paths, results, create_writer = prepare(args, cfg, args.device or get_device())

    writer, failed, start, told = None, {}, time.monotonic(), 0.0
    try:
        for done, (path, sample) in enumerate(results, 1):
            if isinstance(sample, Exception):
                failed.setdefault(type(sample), []).append(path)
                print(f"skipped: {sample}", file=sys.stderr)
            else:
                writer = writer or create_writer(sample)
                writer.write(path, sample)
            elapsed = time.monotonic() - start
            if done == len(paths) or elapsed - told >= 1:
                left, told = elapsed / done * (len(paths) - done), elapsed
                print(f"[{done}/{len(paths)}] {path}, about {left:.0f} s left", flush=True)
    finally:  # what is there is kept, also when somebody stops it
        if writer is not None:
            writer.close()
    if writer is not None:
        count = len(paths) - sum(map(len, failed.values()))
        print(f"{count} {noun}s in {elapsed:.1f} s, results in {args.out}")
    for kind, lost in failed.items():
        refused = issubclass(kind, RefusedImageError)
        what = "were not taken by the network" if refused else "could not be read"
        what = what.replace("were", "was") if len(lost) == 1 else what
        count = f"{len(lost)} {noun}{'s' * (len(lost) > 1)}"
        listed = "\n  ".join(map(str, lost))
        print(f"error: {count} {what}:\n  {listed}", file=sys.stderr)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
