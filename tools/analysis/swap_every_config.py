#!/usr/bin/env python
"""Another backbone in every config of mmdet, mmseg, mmpretrain and mmrotate, on the meta device.

``python tools/analysis/swap_every_config.py --out docs/swap_every_config.csv --table
docs/swap_every_config.md``; a second call goes on where the first was interrupted.
"""

import argparse
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # what asks for a download fails at once

from mmeffvit import compat

RESULTS = ("yes", "no", "refused", "upstream", "none")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]  # for maintenance/, which is in no wheel


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/swap_every_config.csv"))
    parser.add_argument("--table", type=Path, help="write a Markdown table here, too")
    parser.add_argument(
        "--redo", nargs="+", default=[], choices=RESULTS, help="try configs of these results again"
    )
    parser.add_argument(
        "--methods", type=Path, help="do not train kinds of which this table of methods has one"
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try every N-th config")
    parser.add_argument("--timeout", type=float, default=300, help="of one config, in seconds")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    compat.setup()
    # once here, and not in the process of every config
    import mmdet.datasets  # noqa: F401
    import mmpretrain.models  # noqa: F401
    import mmseg.models  # noqa: F401

    with suppress(ImportError):
        import mmrotate.models  # noqa: F401
    from swap_zoo import versions

    from maintenance.swap_zoo import every_config, every_config_table
    from mmeffvit.analysis import results

    configs = list(every_config.iter_configs())[:: args.every]
    start = time.perf_counter()
    rows = every_config.sweep(configs, args.out, args.timeout, args.redo)
    for tried, row in enumerate(rows, start=1):
        place = configs.index((row["toolbox"], row["config"])) + 1
        left = (time.perf_counter() - start) / tried * (len(configs) - place) / 60
        name = f"{row['toolbox']}::{row['config']}"
        print(
            f"{place}/{len(configs)}, {left:.0f} min left: {name}: {row['result']} {row['reason']}",
            flush=True,
        )
    if args.methods:
        known = every_config.take_methods(
            every_config.read_rows(args.out), every_config.read_rows(args.methods)
        )
        results.write_csv(args.out, known, every_config.FIELDS)
    for row in every_config.train_kinds(args.out, args.timeout):
        name = f"{row['toolbox']}::{row['config']}"
        print(f"{name}: trains: {row['trained']} {row['trained_reason']}", flush=True)
    if args.table:
        every_config_table.write_table(args.table, every_config.read_rows(args.out), versions())


if __name__ == "__main__":
    main()
