#!/usr/bin/env python
"""Another backbone and data set in every method of the installed mmdet and mmseg, for one step.

``python tools/analysis/swap_zoo.py --out docs/swap_table.csv --table docs/swap_table.md``; a second
call goes on where the first was interrupted.
"""

import argparse
import os
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from mmeffvit import compat

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # for maintenance/, which is in no wheel


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/swap_table.csv"))
    parser.add_argument("--table", type=Path, help="write a Markdown table here, too")
    parser.add_argument("--only", nargs="+", metavar="TOOLBOX/METHOD", help="such as mmdet/fcos")
    parser.add_argument("--redo", nargs="+", default=[], choices=["yes", "no", "refused"])
    parser.add_argument("--redo-data", nargs="+", default=[], choices=["yes", "no", "refused"])
    parser.add_argument("--timeout", type=float, default=300, help="of one run, in seconds")
    parser.add_argument("--verbose", action="store_true", help="show tracebacks")
    return parser.parse_args(argv)


def versions():
    """Of the packages that were measured."""
    packages = {key: value for key, value in compat.probe().packages.items() if "mm" in key}
    for name in ("torch", "timm", "transformers"):  # the last two for the configs that need them
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    return ", ".join(f"{name} {packages[name]}" for name in sorted(packages))


def main(argv=None):
    args = parse_args(argv)
    compat.setup()
    # once here, and not in the process of every method; CLRNet's preprocessor is among data sets
    import mmdet.datasets  # noqa: F401
    import mmseg.models  # noqa: F401

    from maintenance.swap_zoo import methods, sweep, table

    if args.only:
        chosen = [methods.find_method(*name.split("/")) for name in args.only]
    else:
        chosen = [m for toolbox in methods.TOOLBOXES for m in methods.iter_methods(toolbox)]
    print(f"{len(chosen)} methods", flush=True)
    for done, (row, seconds) in enumerate(
        sweep.sweep(chosen, args.out, args.timeout, args.redo, args.redo_data), start=1
    ):
        name = f"{row['toolbox']}/{row['method']}"
        print(f"{done}: {name}: {row['result']} ({seconds:.0f} s) {row['reason']}", flush=True)
        print(f"    data set: {row.get('dataset')} {row.get('dataset_reason', '')}", flush=True)
        if args.verbose and row.get("traceback"):
            print(row["traceback"], flush=True)
    if args.table:
        table.write_table(args.table, sweep.read_rows(args.out), versions())


if __name__ == "__main__":
    main()
