#!/usr/bin/env python
"""What exporting and quantising change in a trained model: results, time, size and score.

    python tools/analysis/deployment.py CONFIG CHECKPOINT --out work_dirs/deployment/table.csv

A row for PyTorch, for onnxruntime and for onnxruntime with 8-bit integers: how many detections (or
pixels, or scores) agree on images of many sizes, how long an image takes, in turn on as many
threads, and what the config's metrics say. The file is written after every part; rows of other
models stay. The exported files lie beside it. Needs the extra 'onnx'.
"""

import argparse
import shlex
import sys
from pathlib import Path

from mmeffvit import compat


def parse_args(argv=None):
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="with data sets of training and testing")
    parser.add_argument("checkpoint", help="a .pth or .safetensors file")
    parser.add_argument("--out", type=Path, required=True, help="the .csv file")
    parser.add_argument("--count", type=int, default=50, help="images to compare on (default: 50)")
    parser.add_argument(
        "--calibrate", type=int, default=100, help="images to calibrate on (default: 100)"
    )
    parser.add_argument(
        "--shape", type=int, nargs=2, default=(160, 192), metavar=("H", "W"), help="traced size"
    )
    parser.add_argument("--threads", type=int, default=1, help="of the processor (default: 1)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="take the exported files and the rows of this model that are there, and do the rest",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="override config entries: model.test_cfg.mode=whole",
    )
    return parser.parse_args(argv)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    import torch

    from mmeffvit.analysis import deployment
    from mmeffvit.analysis.benchmark import describe_environment
    from mmeffvit.analysis.results import ENVIRONMENT_COLUMNS, read_csv, write_csv
    from mmeffvit.engine import launch
    from mmeffvit.engine.inference import Predictor

    torch.set_num_threads(args.threads)
    cfg = launch.load_config(args.config)
    launch.apply_options(cfg, args.cfg_options)
    columns = (*deployment.COLUMNS, *ENVIRONMENT_COLUMNS, "command")
    kept = read_csv(args.out, columns) if args.out.exists() else []
    args.out.parent.mkdir(parents=True, exist_ok=True)
    print("exporting and quantising ...", file=sys.stderr, flush=True)
    found = deployment.Deployment(
        Predictor(cfg, args.checkpoint, "cpu").model,
        cfg,
        args.out.parent,
        reuse=args.resume,
        count=args.count,
        calibrate=args.calibrate,
        shape=tuple(args.shape),
        threads=args.threads,
    )
    command = shlex.join(["python", "tools/analysis/deployment.py", *(argv or sys.argv[1:])])
    known = {"command": command, **describe_environment()}
    rows, others = {row["form"]: row | known for row in found.rows()}, []
    for row in kept:
        if row["model"] != found.name:
            others.append(row)
        elif args.resume:
            rows[row["form"]] = row
    for part, own in deployment.PARTS.items():
        if any(row[column] for row in rows.values() for column in own):
            print(f"{part}: already in {args.out}", file=sys.stderr)
            continue
        print(f"{part} ...", file=sys.stderr, flush=True)
        for form, values in found.measure(part).items():
            rows[form] |= values
        write_csv(args.out, [*others, *rows.values()], columns)
    for row in rows.values():
        shown = (f"{name} {row[name]}" for name in deployment.COLUMNS[1:] if row[name])
        print(", ".join(shown))
    print(f"written to {args.out}")


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
