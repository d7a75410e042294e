#!/usr/bin/env python
"""Write the object database of a config: ``python tools/build_object_database.py CONFIG``

The points inside of every object for training, which `ObjectSample` pastes into other sweeps.
"""

import argparse

from mmeffvit import compat


def parse_args(argv=None):
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="with ObjectSample in its pipeline for training")
    parser.add_argument("--data-root", metavar="DIR", help="where the data lies")
    parser.add_argument("--out", metavar="FILE", help="default: the info_path of ObjectSample")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="as in train.py"
    )
    return parser.parse_args(argv)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmengine.registry import DATASETS

    from mmeffvit.configs import type_name
    from mmeffvit.datasets.points import build_object_database
    from mmeffvit.engine import data, launch
    from mmeffvit.engine.errors import LaunchError

    cfg = launch.load_config(args.config)
    launch.apply_options(cfg, args.cfg_options, args.data_root)
    dataset = next(data.iter_datasets(cfg.train_dataloader.dataset))
    kinds = [type_name(step) for step in dataset["pipeline"]]
    if "ObjectSample" not in kinds:
        raise LaunchError(
            f"{args.config} pastes no objects: its pipeline for training has no ObjectSample, only "
            f"{', '.join(kinds)}."
        )
    place = kinds.index("ObjectSample")
    out = args.out or dataset["pipeline"][place]["info_path"]
    least = min((dataset["pipeline"][place].get("min_points") or {"": 1}).values())
    dataset["pipeline"] = dataset["pipeline"][:place]  # objects look as they do where they go
    data.check_data(cfg, ["train"])
    number = build_object_database(
        DATASETS.build(dataset), out, least, log=lambda message: print(message, flush=True)
    )
    print(f"{out}: {number} objects")


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
