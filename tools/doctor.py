#!/usr/bin/env python3
"""Say what is installed of the OpenMMLab stack, what is wrong with it, and the commands that repair
it.

    python tools/doctor.py          for people
    python tools/doctor.py --json   for programs

Exit status: 0 if models can be trained with what is installed, 1 otherwise. Runs without torch,
without any OpenMMLab package and, to say so, on a Python that is too old for mmeffvit.
"""

import argparse
import contextlib
import json
import os
import platform
import sys

PYTHON = tuple(sys.version_info[:2])
MIN_PYTHON = (3, 10)

KINDS = {
    "onedl": "onedl: the maintained forks",
    "openmmlab": "openmmlab: the official packages",
    "mixed": "two at once",
    "none": "none",
}
OPERATORS = {
    "compiled": "compiled",
    "stand-ins": "stand-ins of mmeffvit, on torchvision and plain PyTorch",
    "none": "none: mmcv is not installed",
}


def main(argv=None):
    """Print the report; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Say what is installed, what is wrong with it, and how to repair it."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    # What packages print while they are imported must not get into the report.
    with contextlib.redirect_stdout(sys.stderr):
        report = examine() if PYTHON >= MIN_PYTHON else python_too_old()
    print(json.dumps(report, indent=2) if args.json else as_text(report))
    return 0 if report["usable"] else 1


def python_too_old():
    """The report for a Python on which mmeffvit cannot even be imported."""
    needed = ".".join(map(str, MIN_PYTHON))
    problem = {
        "what": f"Python {platform.python_version()} is older than {needed}",
        "repair": f"make install PYTHON=python{needed}",
        "fatal": True,
    }
    return {"python": platform.python_version(), "usable": False, "problems": [problem]}


def examine():
    """The report: the fields of `mmeffvit.compat.Stack`, `usable`, and how to `compile` mmcv."""
    try:
        from mmeffvit.compat import distribution
    except ImportError:  # a checkout that is not installed
        sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        from mmeffvit.compat import distribution
    import dataclasses

    stack = distribution.probe(deep=True)
    report = dataclasses.asdict(stack)
    report["usable"] = stack.usable
    report["compile"] = distribution.how_to_compile() if stack.operators == "stand-ins" else None
    return report


def as_text(report):
    """The report for people."""
    lines = [("python", "{} ({})".format(report["python"], report.get("system", sys.platform)))]
    lines += sorted(report.get("packages", {}).items())
    if "distribution" in report:
        lines.append(("distribution", KINDS[report["distribution"]]))
        lines.append(("mmcv operators", OPERATORS[report["operators"]]))
        lines.append(("GPU", ", ".join(report["gpus"]) or "none: everything runs on the CPU"))
    text = ["{:<24}{}".format(*line) for line in lines]
    if report.get("compile"):
        text += ["", "Compiled operators are optional. " + report["compile"]]
    for problem in report["problems"]:
        text += [
            "",
            "{}: {}".format("WRONG" if problem["fatal"] else "Doubtful", problem["what"]),
            "  repair: {}".format(problem["repair"]),
        ]
    text += ["", "Ready to train." if report["usable"] else "Not usable until this is repaired."]
    return "\n".join(text)


if __name__ == "__main__":
    sys.exit(main())
