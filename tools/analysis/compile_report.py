#!/usr/bin/env python
"""Training steps of backbones, compiled beside eager, over several sizes: a CSV and a table.

python tools/analysis/compile_report.py --backbones ravlt-tiny rmt-tiny --blocks 1 --threads 1 \\
    --sizes 224x320 256x256 --out work_dirs/compiled.csv

Compiled for all sizes, as `tools/train.py --compile` does it. Compilation takes minutes for each
backbone, and needs a C++ compiler on a CPU. A backbone that fails is a row that says why.
"""

import argparse
import sys
from pathlib import Path

import torch
from benchmark import _size

from mmeffvit import compat
from mmeffvit.analysis import compiled, results
from mmeffvit.analysis.benchmark import describe_environment


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", required=True, metavar="NAME")
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=_size,
        default=[(224, 320), (256, 256), (320, 416)],
        metavar="HxW",
        help="in the order in which they are met; the first had better not be square",
    )
    parser.add_argument(
        "--blocks", type=int, metavar="N", help="build stages of at most so many blocks"
    )
    parser.add_argument("--batch-size", dest="batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="timed steps of each way, in turn")
    parser.add_argument("--threads", type=int, help="CPU threads of torch (default: torch's own)")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the results here")
    return parser.parse_args(argv)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    environment = describe_environment()
    options = {name: getattr(args, name) for name in ("batch", "rounds", "backend", "blocks")}
    rows = []
    for name in args.backbones:
        print(f"{name}: compiling ...", file=sys.stderr, flush=True)
        empty = {**dict.fromkeys(compiled.COLUMNS, ""), **environment, "backbone": name}
        try:
            for row in compiled.measure(name, args.sizes, **options):
                rows.append({**empty, **row})
        except Exception as error:  # the others still run
            note = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            rows.append({**empty, "note": note})
        if args.out is not None:
            results.write_csv(args.out, rows, compiled.COLUMNS)
    print(compiled.format_rows(rows))
    if args.out is not None:
        print(f"\nwritten to {args.out}")


if __name__ == "__main__":
    main()
