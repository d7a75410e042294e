"""``python -m mmeffvit.testing.check_golden FILE...``: print every error, fail above tolerance."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmeffvit.testing.golden import TOLERANCES, check_golden, golden_family


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 if all outputs of all files are within tolerance, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="golden .npz files")
    status = 0
    for path in parser.parse_args(arguments).files:
        family = golden_family(path)
        tolerance = TOLERANCES[family]
        print(f"{path} ({family}, tolerance {tolerance:g})")
        for name, error in check_golden(path).items():
            # an error that is not a number is a failure too
            failed = not error <= tolerance
            status |= failed
            print(f"  {name:32s} {error:.3g}{'  FAILED' if failed else ''}")
    return int(status)
