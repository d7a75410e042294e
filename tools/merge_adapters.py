#!/usr/bin/env python
"""Merge low-rank adapters into the weights of a checkpoint.

``python tools/merge_adapters.py CONFIG CHECKPOINT --out FILE.pth`` writes weights under ordinary
names, which need no peft, and beside them FILE.py, the config that they fit.
"""

from pathlib import Path

from mmeffvit import compat


def parse_args(argv=None):
    import argparse

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="the config that was trained, with its adapters")
    parser.add_argument("checkpoint", help="a .pth file that the training has written")
    parser.add_argument("--out", type=Path, metavar="FILE.pth", required=True)
    args = parser.parse_args(argv)
    if args.out.suffix != ".pth":
        parser.error(f"--out writes weights, so its name ends with .pth; got {args.out}")
    return args


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmeffvit.engine import launch
    from mmeffvit.engine.merging import merge_checkpoint

    merge_checkpoint(launch.load_config(args.config), args.checkpoint, args.out)
    print(f"written to {args.out}, with {args.out.with_suffix('.py').name}")


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
