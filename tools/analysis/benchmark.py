#!/usr/bin/env python
"""Time and peak memory of backbones over input sizes, contenders in turn, to a CSV and a table.

python tools/analysis/benchmark.py --backbones secvit-tiny mmdet.SwinTransformer \\
    --sizes 224x224 512x512 800x1344 --mode both --out work_dirs/secvit.csv
python tools/analysis/benchmark.py --implementations fused --sizes 512x512 1024x1024 2048x2048 \\
    --backbones secvit-tiny secvit-tiny:tokens_per_cluster=98
"""

import argparse
import shlex
import sys
import time
from itertools import product
from pathlib import Path

import torch

from mmeffvit import compat
from mmeffvit.analysis import results
from mmeffvit.analysis.backbones import parse_spec
from mmeffvit.analysis.benchmark import (
    DTYPES,
    MODES,
    Measurement,
    Setting,
    describe_environment,
    make_contenders,
    run_setting,
)


def _size(text):
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not HEIGHTxWIDTH, such as 800x1344"
        ) from None
    return height, width


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--backbones",
        nargs="+",
        default=["secvit-tiny"],
        metavar="NAME[:KEY=VALUE,...]",
        help="mmeffvit's by name, a toolbox's as scope.Class, such as mmdet.SwinTransformer",
    )
    parser.add_argument(
        "--implementations",
        nargs="+",
        default=["reference", "fused"],
        help="of mmeffvit's operators; speed-ups are told against 'reference'",
    )
    parser.add_argument(
        "--arch-options",
        default="",
        metavar="KEY=VALUE,...",
        help="arguments for all of mmeffvit's backbones, such as tokens_per_cluster=98",
    )
    parser.add_argument(
        "--sizes", nargs="+", type=_size, default=[(224, 224), (512, 512)], metavar="HxW"
    )
    parser.add_argument("--mode", choices=(*MODES, "both"), default="both")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="others by autocast")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, help="CPU threads of torch (default: torch's own)")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each contender")
    parser.add_argument("--warmup", type=int, default=1, help="calls of each before that")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the results here")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep what --out has of the same machine and versions, and measure the rest",
    )
    args = parser.parse_args(argv)
    if args.resume and args.out is None:
        parser.error("--resume continues the file of --out; give one")
    return args


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    options = parse_spec(f":{args.arch_options}")[1]
    environment = describe_environment(args.device)
    command = shlex.join(["tools/analysis/benchmark.py", *(sys.argv[1:] if argv is None else argv)])
    contenders = make_contenders(args.backbones, args.implementations)
    modes = MODES if args.mode == "both" else (args.mode,)
    settings = [
        Setting(*size, mode, args.batch_size, args.dtype, args.device)
        for size, mode in product(args.sizes, modes)
    ]

    def to_rows(measurements):
        return [
            results.to_row(measurement, environment, args.arch_options, command)
            for measurement in measurements
        ]

    kept = {}
    if args.resume and args.out.exists():
        kept = {results.identity(row): row for row in results.read_csv(args.out)}
    print("; ".join(f"{key}: {value}" for key, value in environment.items()), file=sys.stderr)
    rows, done, start = [], 0, time.monotonic()
    planned = {
        setting: [
            results.identity(row)
            for row in to_rows(Measurement(setting, contender) for contender in contenders)
        ]
        for setting in settings
    }
    left = sum(_cost(setting) for setting in settings)
    for index, setting in enumerate(settings, 1):
        label = f"[{index}/{len(settings)}] {setting.height}x{setting.width} {setting.mode}"
        left -= _cost(setting)
        if all(key in kept for key in planned[setting]):
            rows += [kept[key] for key in planned[setting]]
            print(f"{label}: already in {args.out}", file=sys.stderr)
            continue
        print(f"{label}: {len(contenders)} contenders in turn ...", file=sys.stderr, flush=True)
        measurements = run_setting(
            setting,
            contenders,
            rounds=args.rounds,
            warmup=args.warmup,
            memory=not args.no_memory,
            options=options,
        )
        rows += to_rows(measurements)
        if args.out is not None:
            results.write_csv(args.out, rows)
        done += _cost(setting)
        elapsed = time.monotonic() - start
        print(
            f"{label}: done; {elapsed:.0f} s so far, about {elapsed / done * left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )
    print(results.format_rows(rows))
    growth = results.format_growth(rows)
    if growth:
        print(f"\n{growth}")
    if args.out is not None:
        print(f"\nwritten to {args.out}")


def _cost(setting):
    # for the time left only: a fixed part, and one that grows with pixels; backward is two forwards
    return 500_000 + setting.area * (3 if setting.mode == "train" else 1)


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
