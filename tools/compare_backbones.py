#!/usr/bin/env python
"""Which backbone for my data? Each is trained in one config for an equal budget, and measured.

    python tools/compare_backbones.py CONFIG --dataset DIR --budget 20min \\
        --backbones config secvit-tiny rmt-tiny --out work_dirs/comparison

The folder of --out gets comparison.csv, row by row, comparison.md and comparison.png: accuracy
against latency and memory. Started again, it goes on where it was; a run that fails is a row with
its reason.
"""

import argparse
import sys
from pathlib import Path

from mmeffvit import compat

#: minutes after which submitit stops a run here: never, as the budget does
_FOREVER = 60 * 24 * 365


def parse_args(argv=None):
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="file, or upstream name such as mmdet::.../x.py")
    parser.add_argument(
        "--backbones",
        nargs="+",
        required=True,
        metavar="NAME[:KEY=VALUE,...]",
        help="of mmeffvit, such as rmt-tiny; of a toolbox, such as mmdet.SwinTransformer; "
        "'config' is the config's own",
    )
    parser.add_argument("--budget", required=True, help="of each: 90s, 20min, 2h, or 5000iters")
    parser.add_argument("--dataset", default="", metavar="DIR", help="train on this folder")
    parser.add_argument(
        "--data-root", default="", metavar="DIR", help="where the config's data lie"
    )
    parser.add_argument(
        "--recipe", choices=("adamw", "keep"), default="adamw", help="for all (default: adamw)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and data (default: 0)")
    parser.add_argument(
        "--metric", default="", help="such as coco/bbox_mAP (default: the main one)"
    )
    parser.add_argument(
        "--device", help="cpu or cuda (default: a GPU if there is one, or --gpus asks for one)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the results")
    parser.add_argument("--retry", action="store_true", help="run anew what failed")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="for all runs"
    )
    group = parser.add_argument_group("where runs go, through submitit")
    group.add_argument(
        "--cluster",
        choices=("local", "slurm", "debug"),
        default="local",
        help="local: one after the other, each in a process (default); debug: in this one",
    )
    group.add_argument("--partition", metavar="P", help="of SLURM")
    group.add_argument("--time-limit", type=int, metavar="MIN", help="of a SLURM job")
    group.add_argument("--gpus", type=int, default=1, help="of a SLURM job (default: 1)")
    group.add_argument("--cpus", type=int, default=4, help="of a SLURM job (default: 4)")
    args = parser.parse_args(argv)
    if args.cluster == "slurm" and (args.partition is None or args.time_limit is None):
        parser.error("--cluster slurm needs --partition P and --time-limit MIN")
    return args


def _device(args, here):
    """Of the runs: on a cluster what is asked for counts, as the machine that asks has no GPU."""
    has_gpu = args.gpus > 0 if args.cluster == "slurm" else here == "cuda"
    return "cuda" if has_gpu else "cpu"


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmengine.device import get_device

    from mmeffvit.analysis import compare, compare_report
    from mmeffvit.analysis.results import write_csv
    from mmeffvit.engine import launch
    from mmeffvit.files import whole_file
    from mmeffvit.visualization.files import save_picture

    compare.Budget.parse(args.budget)
    launch.load_config(args.config)  # a wrong name does not wait for a queue
    jobs = compare.make_jobs(
        args.backbones,
        args.out / "runs",
        config=args.config,
        budget=args.budget,
        dataset=args.dataset,
        data_root=args.data_root,
        recipe=args.recipe,
        seed=args.seed,
        device=args.device or _device(args, get_device()),
        metric=args.metric,
        options=dict(args.cfg_options or {}),
    )
    table = args.out / "comparison.csv"
    rows = {tuple(row[k] for k in compare.IDENTITY): row for row in compare_report.read_rows(table)}
    if args.retry:
        rows = {key: row for key, row in rows.items() if row["status"] == "ok"}
    left = [job for job in jobs if job.identity not in rows]
    print(f"{len(jobs) - len(left)} of {len(jobs)} runs are in {table} already", flush=True)
    parameters = {"timeout_min": args.time_limit or _FOREVER}
    if args.cluster == "slurm":
        parameters |= {"slurm_partition": args.partition, "cpus_per_task": args.cpus}
        parameters |= {"name": "compare_backbones"}
        parameters |= {"gpus_per_node": args.gpus} if args.gpus else {}
    elif args.device != "cpu" and get_device() == "cuda":
        parameters["gpus_per_node"] = 1
    runs = compare.run_jobs(left, args.out / "jobs", args.cluster, **parameters)
    for number, (job, row) in enumerate(runs, 1):
        rows[job.identity] = row
        write_csv(table, list(rows.values()), compare.COLUMNS)
        said = f"{row['metric']} {row['value']}" if row["status"] == "ok" else row["reason"]
        print(f"[{number}/{len(left)}] {job.backbone}: {row['status']}, {said}", flush=True)
    mine = [rows[job.identity] for job in jobs]
    text = compare_report.format_table(mine)
    print(text)
    with whole_file(args.out / "comparison.md") as scratch:
        scratch.write_text(text + "\n")
    if any(row["status"] == "ok" for row in mine):
        figure = compare_report.draw_comparison(mine, Path(args.config).stem)
        save_picture(figure, args.out / "comparison.png")
    print(f"written to {args.out}")
    if any(row["status"] != "ok" for row in mine):
        sys.exit(1)


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
