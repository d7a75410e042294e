"""Handwritten digits of scikit-learn as images in [-1, 1]."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import Dataset

from mmeffvit.registry import DATASETS


@DATASETS.register_module()
class DigitImages(Dataset):
    """1797 images of 8 x 8 pixels; each is a dict of ``inputs`` (1, 8, 8) and ``labels``."""

    def __init__(self):
        digits = load_digits()
        self.images = torch.from_numpy(digits.images).float()[:, None] / 8 - 1
        self.labels = torch.from_numpy(digits.target).long()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": self.images[index], "labels": self.labels[index]}
