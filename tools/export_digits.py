"""Write the digits data to a folder, in its own layout or that of COCO 2017, ADE20K or ImageNet-1K.

    python tools/export_digits.py --layout coco --out data/coco
    python tools/export_digits.py --layout ade20k --out data/ade
    python tools/export_digits.py --layout imagenet --out data/imagenet

makes data on which every full-size config for COCO, ADE20K or ImageNet, upstream or of this
project, runs unchanged: names of folders and files are those of the original, and digits stand in
for its first categories. The folder of ADE20K is OUT/ADEChallengeData2016, as its archive unpacks.
"""

import argparse
import sys
import time
from pathlib import Path

from mmeffvit.datasets.coco_categories import COCO_CATEGORIES
from mmeffvit.demo_data.digits import DIGITS_METAINFO, ensure_digits
from mmeffvit.demo_data.digits.layouts import WNIDS
from mmeffvit.demo_data.folders import ForeignFolderError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument(
        "--layout", choices=("ade20k", "coco", "digits", "imagenet"), default="coco"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs="+",
        default=[480, 640],
        metavar=("HEIGHT", "WIDTH"),
        help="size of the images in pixels; one number for squares (default: 480 640)",
    )
    parser.add_argument("--num-train", type=int, default=400, help="images (default: 400)")
    parser.add_argument("--num-val", type=int, default=100, help="images (default: 100)")
    parser.add_argument(
        "--max-digits", type=int, default=8, help="per image (default: 8); ImageNet's have one"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, help="threads (default: one per processor)")
    args = parser.parse_args(argv)
    if len(args.size) > 2:
        parser.error(f"--size takes one or two numbers, not {len(args.size)}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    start = time.perf_counter()
    out = Path(args.out, "ADEChallengeData2016") if args.layout == "ade20k" else args.out
    try:
        written = ensure_digits(
            out,
            num_train=args.num_train,
            num_val=args.num_val,
            image_size=(args.size[0], args.size[-1]),
            max_digits=args.max_digits,
            seed=args.seed,
            layout=args.layout,
            workers=args.workers,
            log=lambda message: print(message, flush=True),
        )
    except (ForeignFolderError, ValueError) as error:
        print(f"export_digits: {error}", file=sys.stderr)
        return 1
    done = f"written in {time.perf_counter() - start:.1f} s" if written else "there already"
    print(f"{out}: {args.num_train} + {args.num_val} images, {done}")
    if args.layout == "coco":
        pairs = zip(DIGITS_METAINFO["classes"], COCO_CATEGORIES)
        print("digits as categories:", ", ".join(f"{digit} = {c[1]}" for digit, c in pairs))
    if args.layout == "imagenet":
        print("digits as classes:", ", ".join(f"{d} = {wnid}" for d, wnid in enumerate(WNIDS)))
    if args.layout == "ade20k":
        print("labels: digit d = d + 1, what is no digit = 11, crowds = 0 (not labelled)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
