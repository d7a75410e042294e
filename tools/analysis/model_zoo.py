#!/usr/bin/env python
"""Tables of all models from the metafiles: docs/model_zoo.md and every README with a marked block.

python tools/analysis/model_zoo.py                            # write them
python tools/analysis/model_zoo.py --check                    # fail if one is stale
python tools/analysis/model_zoo.py --out docs/model_zoo.md    # this file only
python tools/analysis/model_zoo.py --measure                  # count all models first: minutes
python tools/analysis/model_zoo.py --measure '*_rmt-*'        # only some
"""

import argparse
import fnmatch
import sys
import time
from pathlib import Path

from mmeffvit import compat
from mmeffvit.files import whole_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # for maintenance/, which is in no wheel


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="Markdown files with blocks <!-- model-zoo: ... --> (default: all of the project)",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if stale")
    parser.add_argument(
        "--measure",
        nargs="?",
        const="*",
        metavar="PATTERN",
        help="count parameters and MACs of the models of these names (default: all) and write them "
        "into the metafiles",
    )
    return parser.parse_args(argv)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from maintenance.metafiles import read_metafiles
    from maintenance.model_zoo import fill_blocks, has_blocks

    stale = _measure(args.measure, args.check) if args.measure else []
    files = args.out or [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("configs/*/*.md")]
    collections = read_metafiles(ROOT)
    for path in files:
        text = path.read_text()
        if not has_blocks(text):
            if args.out:
                raise ValueError(f"{path} has no block <!-- model-zoo: ... --> to fill in")
            continue
        new = fill_blocks(text, collections, path.resolve().parent, ROOT)
        stale += _write(path, text, new, args.check)
    if not stale:
        print("everything is as the metafiles say")
    return 1 if stale and args.check else 0


def _write(path, old, new, check):
    if old == new:
        return []
    print(f"{'stale' if check else 'written'}: {path}")
    if not check:
        with whole_file(path) as scratch:
            scratch.write_text(new)
    return [path]


def _measure(pattern, check):
    from maintenance.metafiles import measure_all, read_metafiles, with_measured

    collections = read_metafiles(ROOT)
    models = [m for c in collections for m in c.models if fnmatch.fnmatch(m.name, pattern)]
    if not models:
        raise ValueError(f"no model's name matches '{pattern}'")
    start, measured = time.monotonic(), {}
    for model, numbers in measure_all(models, ROOT):
        measured[model.name] = numbers
        left = (time.monotonic() - start) / len(measured) * (len(models) - len(measured))
        print(f"[{len(measured)}/{len(models)}, {left:.0f} s left] {model.name}", flush=True)
    stale = []
    for path in dict.fromkeys(collection.metafile for collection in collections):
        of_file = {m.name for c in collections if c.metafile == path for m in c.models}
        text = path.read_text()
        new = with_measured(text, {name: measured[name] for name in of_file & measured.keys()})
        stale += _write(path, text, new, check)
    return stale


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
