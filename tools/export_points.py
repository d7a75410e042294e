"""Write point clouds made on the spot to a folder, in the layout of S3DIS or of KITTI.

    python tools/export_points.py --layout s3dis --out data/s3dis
    python tools/export_points.py --layout kitti --out data/kitti

makes data on which the configs for these data sets run unchanged: rooms of simple solids with the
13 classes of S3DIS, as the preprocessing of the point transformers leaves them (Area_5 is for
validation), or LiDAR sweeps of streets with cars, pedestrians and cyclists, without images.
"""

import argparse
import sys
import time

from mmeffvit.datasets.points.rooms.datasets import S3DIS_METAINFO
from mmeffvit.demo_data.folders import ForeignFolderError
from mmeffvit.demo_data.rooms import ensure_rooms
from mmeffvit.demo_data.streets import ensure_sweeps

#: options of one layout alone
_OWN = {"s3dis": ("spacing", "rays"), "kitti": ("field", "field_of_view")}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--layout", choices=("s3dis", "kitti"), required=True)
    parser.add_argument("--num-train", type=int, default=160, help="clouds (default: 160)")
    parser.add_argument("--num-val", type=int, default=40, help="clouds (default: 40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, help="threads (default: one per processor)")
    rooms = parser.add_argument_group("rooms (s3dis)")
    rooms.add_argument(
        "--spacing", type=float, help="metres; cells of this side keep one point (default: 0.055)"
    )
    rooms.add_argument("--rays", type=int, help="of each of four scanners (default: 2600)")
    sweeps = parser.add_argument_group("sweeps (kitti)")
    sweeps.add_argument("--field", type=float, help="side of the square, metres (default: 40)")
    sweeps.add_argument("--field-of-view", type=float, help="degrees (default: 90)")
    args = parser.parse_args(argv)
    for layout, names in _OWN.items():
        for name in names:
            if layout != args.layout and getattr(args, name) is not None:
                option = name.replace("_", "-")
                parser.error(f"--{option} is for --layout {layout}, not {args.layout}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    start = time.perf_counter()
    make = ensure_rooms if args.layout == "s3dis" else ensure_sweeps
    own = {name: getattr(args, name) for name in _OWN[args.layout]}
    try:
        written = make(
            args.out,
            num_train=args.num_train,
            num_val=args.num_val,
            seed=args.seed,
            **{name: value for name, value in own.items() if value is not None},
            workers=args.workers,
            log=lambda message: print(message, flush=True),
        )
    except (ForeignFolderError, ValueError) as error:
        print(f"export_points: {error}", file=sys.stderr)
        return 1
    done = f"written in {time.perf_counter() - start:.1f} s" if written else "there already"
    kind = "rooms" if args.layout == "s3dis" else "sweeps"
    print(f"{args.out}: {args.num_train} + {args.num_val} {kind}, {done}")
    if args.layout == "s3dis":
        names = enumerate(S3DIS_METAINFO["classes"])
        print("classes:", ", ".join(f"{label} = {name}" for label, name in names))
    else:
        print("boxes: Car, Pedestrian, Cyclist; DontCare where there are less than 5 points")
    return 0


if __name__ == "__main__":
    sys.exit(main())
