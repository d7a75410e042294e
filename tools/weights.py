#!/usr/bin/env python
"""Published weights by name.

    python tools/weights.py list 'ravlt-*'
    python tools/weights.py info ravlt-tiny/in1k
    python tools/weights.py get ravlt-tiny/in1k
    python tools/weights.py get secvit-tiny/in1k --file SecViT_T.pth

`get` fetches a file, checks and converts it, and keeps the result, once for all programs of this
user; `--file` takes one that you have got by hand, from a share, or where there is a network.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from mmeffvit import compat


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="names, tasks, figures and licences")
    listing.add_argument("pattern", nargs="?", default="*", help="such as 'ravlt-*' or '*/in1k'")
    info = commands.add_parser("info", help="all that is known of one")
    info.add_argument("name")
    get = commands.add_parser("get", help="fetch, check, convert and keep one")
    get.add_argument("name")
    get.add_argument("--file", type=Path, help="a file that you have got by hand")
    get.add_argument("--out", type=Path, metavar="FILE", help="copy the converted file here too")
    return parser.parse_args(arguments)


def describe_all(pattern: str) -> str:
    """A table of what matches a pattern.

    Raises:
        ValueError: Nothing does.
    """
    from mmeffvit.models.weights import list_weights, weights_files

    names = list_weights(pattern)
    if not names:
        raise ValueError(f"no name matches '{pattern}'; without a pattern all are listed")
    files = weights_files()
    rows = [("name", "task", "published", "where", "licence")]
    for name in names:
        file = files[name]
        where = "share" if file.share else "hub" if file.hub else "web"
        rows.append((name, file.task, _figures(file), where, file.licence.partition(" (")[0]))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def describe(name: str) -> str:
    """Every field of a published file, and where it is kept."""
    from mmeffvit.checkpoint.by_name import converted_path
    from mmeffvit.models.weights import find_weights_file

    file = find_weights_file(name)
    kept = converted_path(file)
    fields = {
        "name": file.name,
        "task": file.task,
        "published": _figures(file) or "not stated",
        "from": file.source,
        "licence": file.licence,
        "bytes": f"{file.size:,}" if file.size else "not known",
        "SHA-256": (file.sha256 + "..." * (len(file.sha256) < 64)) if file.sha256 else "not known",
        "config": f"configs/{file.config}" if file.config else "",
        "note": file.note,
        "kept": str(kept) if kept.is_file() else "not yet: tools/weights.py get " + file.name,
    }
    return "\n".join(f"{key:10}{value}" for key, value in fields.items() if value)


def _figures(file) -> str:
    return ", ".join(f"{name} {value}" for name, value in file.figures.items())


def get(name: str, file: Path | None, out: Path | None) -> str:
    """Fetch one, or take a file for it; says where the result is."""
    from mmeffvit.checkpoint.by_name import add_file, fetch
    from mmeffvit.files import whole_file

    path = fetch(name) if file is None else add_file(name, file)
    if out is not None:
        with whole_file(out) as scratch:
            shutil.copyfile(path, scratch)
        path = out
    return str(path)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    compat.setup()
    from mmeffvit.errors import CheckpointError

    try:
        if args.command == "list":
            print(describe_all(args.pattern))
        elif args.command == "info":
            print(describe(args.name))
        else:
            print(get(args.name, args.file, args.out))
    except (ValueError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
