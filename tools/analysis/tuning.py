#!/usr/bin/env python
"""Trained parameters, and memory of a step: full, frozen, LoRA and AdaptFormer, to a CSV.

python tools/analysis/tuning.py --backbones ravlt-tiny vit-tiny --out work_dirs/tuning.csv
"""

import argparse
import shlex
import sys
from pathlib import Path

from mmeffvit import compat


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--backbones",
        nargs="+",
        default=["ravlt-tiny", "vit-tiny", "mmdet.SwinTransformer"],
        metavar="NAME",
        help="of ours by name, of a toolbox as scope.Class",
    )
    parser.add_argument("--batch-size", type=int, default=2, metavar="B")
    parser.add_argument("--side", type=int, default=224, help="of the square images, in pixels")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write the measurements here")
    return parser.parse_args(argv)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmeffvit.analysis import tuning
    from mmeffvit.analysis.results import write_csv

    words = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "tools/analysis/tuning.py", *map(str, words)])
    rows = []
    for row in tuning.measure(args.backbones, args.batch_size, args.side):
        rows.append({**row, "command": command})
        print(f"{row['backbone']} {row['method']}: {row['peak_memory_mib']} MiB", file=sys.stderr)
        if args.out is not None:
            write_csv(args.out, rows, tuning.COLUMNS)
    print(tuning.format_table(rows))


if __name__ == "__main__":
    main()
