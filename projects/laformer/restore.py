#!/usr/bin/env python
"""A picture of restored photographs: what was given, what each model makes of it, the photograph.

python projects/laformer/restore.py CONFIG CHECKPOINT [CONFIG CHECKPOINT ...] --out restored.png

One row per degradation; models of the same degradation stand side by side.
"""

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for custom_imports

from mmeffvit import compat
from mmeffvit.checkpoint import load_weights, read_checkpoint
from mmeffvit.files import whole_file


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="CONFIG CHECKPOINT")
    parser.add_argument("--out", type=Path, default=Path("restored.png"))
    parser.add_argument("--image", type=int, default=0, help="number of the test photograph")
    parser.add_argument("--crop", type=int, default=96, help="side of what is shown, in its middle")
    args = parser.parse_args(argv)
    if len(args.models) % 2:
        parser.error("give a checkpoint for each config")
    args.models = list(zip(args.models[::2], args.models[1::2]))
    return args


def rows_of(models, index):
    """Images by degradation: given, restored by each model, photograph; (3, H, W) in [0, 1]."""
    rows = {}
    for config, checkpoint in models:
        cfg = Config.fromfile(config)
        model = MODELS.build(cfg.model).eval()
        load_weights(model, read_checkpoint(checkpoint), prefix="")
        sample = DATASETS.build(cfg.test_dataloader.dataset)[index]
        given, target = sample["inputs"], sample["targets"]
        if given.shape != target.shape:
            given = F.interpolate(given[None], target.shape[1:], mode="bicubic")[0]
        row = rows.setdefault(str(cfg.test_dataloader.dataset), [given, target])
        row.insert(-1, model.restore(sample["inputs"][None])[0])
    return list(rows.values())


def middle(image, side):
    top, left = ((length - side) // 2 for length in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def sheet(rows, side):
    """Rows of images as one picture, two pixels for each; shorter rows end in white."""
    columns = max(map(len, rows))
    lines = []
    for row in rows:
        cells = [middle(image, side).clamp(0, 1) for image in row]
        cells += [torch.ones(3, side, side)] * (columns - len(row))
        lines.append(torch.cat([F.pad(cell, (1,) * 4, value=1.0) for cell in cells], 2))
    pixels = (torch.cat(lines, 1) * 255).round().to(torch.uint8)
    return pixels.repeat_interleave(2, 1).repeat_interleave(2, 2).permute(1, 2, 0).numpy()


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    picture = sheet(rows_of(args.models, args.image), args.crop)
    with whole_file(args.out) as scratch:
        Image.fromarray(picture).save(scratch, format="PNG", optimize=True)
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
