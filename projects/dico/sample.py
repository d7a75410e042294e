#!/usr/bin/env python
"""Digits of a trained DiCo: a picture of them, and how many a classifier takes for what was asked.

python projects/dico/sample.py CONFIG CHECKPOINT --out digits.png
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.svm import SVC

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for custom_imports

from mmeffvit import compat
from mmeffvit.checkpoint import load_weights, read_checkpoint
from mmeffvit.files import whole_file


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--out", type=Path, default=Path("digits.png"))
    parser.add_argument("--count", type=int, default=20, help="samples of each digit")
    parser.add_argument("--guidance", type=float, default=1.0, help="1 for none")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def sheet(images, columns):
    """(N, 8, 8) in [0, 1] as one picture, four pixels each, class by class in rows."""
    rows = images.reshape(-1, columns, *images.shape[1:]).transpose(0, 2, 1, 3)
    pixels = rows.reshape(-1, columns * images.shape[-1])
    return np.kron(pixels * 255, np.ones((4, 4))).astype(np.uint8)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    cfg = Config.fromfile(args.config)
    model = MODELS.build(cfg.model)
    load_weights(model, read_checkpoint(args.checkpoint), prefix="")
    model.eval().guidance = args.guidance
    torch.manual_seed(args.seed)
    labels = torch.arange(10).repeat_interleave(args.count)
    images = ((model.sample(labels, (1, 8, 8))[:, 0].clamp(-1, 1) + 1) / 2).numpy()
    with whole_file(args.out) as scratch:
        Image.fromarray(sheet(images, args.count)).save(scratch, format="PNG")
    digits = load_digits()
    classifier = SVC().fit(digits.data / 16, digits.target)
    found = classifier.predict(images.reshape(len(images), -1))
    print(f"{(found == labels.numpy()).mean():.1%} of {len(images)} samples are what was asked for")
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
