#!/usr/bin/env python
"""What a GPU makes of all this: agreement with a CPU, time and memory, in a few minutes.

python tools/analysis/gpu_report.py --minutes 8 --out work_dirs/gpu_report
python tools/analysis/gpu_report.py --tiny --out work_dirs/try   # that it runs, on any machine

Golden files and operators on the device in float32, bfloat16 and float16; training steps at
800x1344, batch 2, bfloat16, of the tiny networks beside Swin-T and ConvNeXt-T, the backbone alone
and inside Mask R-CNN, eager and compiled; flex_attention and NATTEN beside what runs by default;
images per second at 224; growth from 512 to 2048; the networks for points. Most important first.
report.csv is written after each of them, so that a run that is cut short leaves what it had;
report.md is made from it.
"""

import argparse
import sys
from pathlib import Path

import torch

from mmeffvit import compat
from mmeffvit.analysis.benchmark import describe_environment

ROOT = Path(__file__).resolve().parents[2]


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--minutes", type=float, default=8, help="begin nothing after so many; default 8"
    )
    parser.add_argument("--device", help="default cuda; with --tiny a CPU where there is no GPU")
    parser.add_argument(
        "--tiny", action="store_true", help="a piece of everything, small: does it run?"
    )
    parser.add_argument(
        "--goldens",
        type=Path,
        default=ROOT / "tests/data/golden",
        metavar="DIR",
        help="golden files",
    )
    return parser.parse_args(argv)


def find_device(args):
    """The device that was asked for, or the GPU; a CPU is for --tiny alone.

    Raises:
        ValueError: There is no GPU.
    """
    if args.device is not None:
        return args.device
    if torch.cuda.is_available():
        return "cuda"
    if args.tiny:
        return "cpu"
    raise ValueError("there is no GPU here; --tiny runs on a CPU, as does --device cpu")


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmeffvit.analysis import gpu_report

    device = find_device(args)
    sizes = gpu_report.TINY if args.tiny else gpu_report.FULL
    items = gpu_report.plan(sizes, device, list(args.goldens.glob("*.npz")))
    args.out.mkdir(parents=True, exist_ok=True)
    environment = describe_environment(device)
    rows = gpu_report.run(items, args.out / "report.csv", args.minutes, environment)
    gpu_report.write_page(rows, args.out / "report.md")
    wrong = [row for row in rows if row["verdict"] in ("failed", "too large")]
    print(f"{len(rows)} rows, {len(wrong)} failed or too large: {args.out / 'report.md'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
