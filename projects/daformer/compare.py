#!/usr/bin/env python
"""Labelled scenes alone and with adaptation: trainings of several seeds, a table, a picture.

python projects/daformer/compare.py --work-dir work_dirs/daformer --seeds 0 1 2

Run it from the root of the repository. Rows come into WORK_DIR/results.csv as runs end. Started
again, it goes on: a run that has its row is not repeated, and one that was stopped is resumed.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, METRICS, MODELS, DefaultScope
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for custom_imports

from mmeffvit import compat
from mmeffvit.analysis.results import write_csv
from mmeffvit.checkpoint import read_checkpoint
from mmeffvit.files import whole_file

PROJECT = Path(__file__).resolve().parent
START = PROJECT / "configs/start_rmt_digits-64.py"
METHODS = {
    name: PROJECT / f"configs/{name}_rmt_1xb8-800_digits-64.py"
    for name in ("source-only", "rare-classes", "daformer")
}


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/daformer"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--images", type=int, default=6, help="rows of the picture")
    return parser.parse_args(argv)


def train(config, work_dir, seed):
    """One run of tools/train.py, or what is left of it; the last checkpoint."""
    last = work_dir / f"iter_{Config.fromfile(config).train_cfg.max_iters}.pth"
    if not last.is_file():
        words = [
            str(PROJECT.parents[1] / "tools/train.py"),
            str(config),
            "--work-dir",
            str(work_dir),
            "--resume",
        ]
        options = ["--cfg-options", f"randomness.seed={seed}"]
        subprocess.run([sys.executable, *words, *options], check=True)
    return last


def trained(cfg, checkpoint):
    """The segmentor of a checkpoint, without what only training needs."""
    parts = ("backbone", "decode_head", "data_preprocessor", "train_cfg", "test_cfg")
    model = MODELS.build({"type": "EncoderDecoder", **{name: cfg.model[name] for name in parts}})
    weights = read_checkpoint(checkpoint)["state_dict"]
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    return model.eval()


@torch.no_grad()
def scores(cfg, checkpoint):
    """IoU of each class on photographs that training has not seen, by mmseg's metric."""
    model, dataset = trained(cfg, checkpoint), DATASETS.build(cfg.test_dataloader.dataset)
    metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = dataset.metainfo
    size = cfg.test_dataloader.batch_size
    for first in range(0, len(dataset), size):
        last = min(first + size, len(dataset))
        batch = pseudo_collate([dataset[i] for i in range(first, last)])
        metric.process(batch, [sample.to_dict() for sample in model.test_step(batch)])
    intersect, union = (sum(areas) for areas in list(zip(*metric.results))[:2])
    return dict(zip(dataset.metainfo["classes"], (100 * intersect / union).tolist()))


def read_rows(file):
    if not file.is_file():
        return []
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def table(rows):
    """Means over seeds, in Markdown."""
    classes = [name for name in rows[0] if name not in ("method", "seed", "mIoU")]
    lines = ["| | seeds | " + " | ".join([*classes, "mIoU", "of each seed"]) + " |"]
    lines.append("|---" * (len(classes) + 4) + "|")
    for method in dict.fromkeys(row["method"] for row in rows):
        own = sorted((r for r in rows if r["method"] == method), key=lambda row: int(row["seed"]))
        means = [f"{mean(float(row[name]) for row in own):.1f}" for name in [*classes, "mIoU"]]
        each = ", ".join(f"{float(row['mIoU']):.1f}" for row in own)
        lines.append(f"| {method} | {len(own)} | " + " | ".join([*means, each]) + " |")
    return "\n".join(lines)


@torch.no_grad()
def picture(runs, count):
    """In columns: images, their labels, what each run predicts; (H, W, 3), uint8."""
    dataset = DATASETS.build(runs[0][0].test_dataloader.dataset)
    palette = np.array(dataset.metainfo["palette"], np.uint8)
    models = [trained(*run) for run in runs]
    rows = []
    for index in range(count):
        batch = pseudo_collate([dataset[index]])
        image = batch["inputs"][0].permute(1, 2, 0).numpy()[..., ::-1]
        labels = batch["data_samples"][0].gt_sem_seg.data[0].numpy()
        found = [model.test_step(batch)[0].pred_sem_seg.data[0].numpy() for model in models]
        known = labels < len(palette)
        maps = [palette[np.where(known, drawn, 0)] * known[..., None] for drawn in (labels, *found)]
        rows.append(np.hstack([np.pad(cell, ((1, 1), (1, 1), (0, 0))) for cell in (image, *maps)]))
    return np.vstack(rows).repeat(2, 0).repeat(2, 1)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    torch.set_num_threads(1)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    file = args.work_dir / "results.csv"
    rows = read_rows(file)
    done = {(row["method"], int(row["seed"])) for row in rows}
    todo = [(m, s) for s in args.seeds for m in args.methods if (m, s) not in done]
    if todo:
        train(START, Path("work_dirs", START.stem), 0)
    for number, (method, seed) in enumerate(todo, 1):
        print(f"run {number} of {len(todo)}: {method}, seed {seed}", flush=True)
        checkpoint = train(METHODS[method], args.work_dir / f"{method}_{seed}", seed)
        with DefaultScope.overwrite_default_scope("mmseg"):
            found = scores(Config.fromfile(METHODS[method]), checkpoint)
        found["mIoU"] = np.nanmean(list(found.values()))
        found = {name: f"{value:.2f}" for name, value in found.items()}
        rows.append({"method": method, "seed": seed, **found})
        write_csv(file, rows, list(rows[0]))
        print(f"{method}, seed {seed}: mIoU {found['mIoU']}", flush=True)
    print(table([row for row in rows if row["method"] in args.methods]))
    runs = []
    for method in args.methods:
        cfg = Config.fromfile(METHODS[method])
        name = f"{method}_{args.seeds[0]}/iter_{cfg.train_cfg.max_iters}.pth"
        runs.append((cfg, args.work_dir / name))
    with DefaultScope.overwrite_default_scope("mmseg"):
        pixels = picture(runs, args.images)
    with whole_file(args.work_dir / "predictions.png") as scratch:
        Image.fromarray(pixels).save(scratch, format="PNG", optimize=True)
    print(f"written: {file}, {args.work_dir / 'predictions.png'}")


if __name__ == "__main__":
    main()
