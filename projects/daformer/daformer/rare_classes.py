"""Rare classes drawn more often than they occur (arXiv 2111.14887, section 3.2), and pairs of a
labelled and an unlabelled image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from torch.utils.data import Dataset

from mmeffvit.files import whole_file
from mmeffvit.registry import DATASETS


def class_probabilities(pixels: Sequence[int], temperature: float) -> np.ndarray:
    """How often each class is drawn: softmax((1 - f) / T), f being its share of all pixels.

    Args:
        pixels: (K,) pixels of each class in a data set.
        temperature: T; the smaller, the more often rare classes are drawn.
    """
    share = np.asarray(pixels, float) / np.sum(pixels)
    # less the largest exponent, which is that of the rarest class
    weight = np.exp((share.min() - share) / temperature)
    return weight / weight.sum()


def count_pixels(dataset: BaseSegDataset) -> np.ndarray:
    """Pixels of each class in each image of a data set: (N, K)."""
    load = LoadAnnotations()
    classes = len(dataset.metainfo["classes"])
    counts = np.zeros((len(dataset), classes), np.int64)
    for index in range(len(dataset)):
        if index and index % 2000 == 0:
            print_log(f"rare classes: {index}/{len(dataset)} label maps counted", logger="current")
        labels = load(dataset.get_data_info(index))["gt_seg_map"]
        counts[index] = np.bincount(labels[labels < classes].ravel(), minlength=classes)
    return counts


def kept_counts(dataset: BaseSegDataset, file: Path) -> np.ndarray:
    """`count_pixels`, written to a JSON file the first time, and read from it later.

    Raises:
        ValueError: The file is of another data set.
    """
    names = [dataset.get_data_info(index)["seg_map_path"] for index in range(len(dataset))]
    about = {"classes": list(dataset.metainfo["classes"]), "files": [Path(n).name for n in names]}
    if file.exists():
        kept = json.loads(file.read_text())
        if any(kept.get(key) != value for key, value in about.items()):
            raise ValueError(
                f"{file} counts the pixels of another data set; delete it, or name another file"
            )
        return np.array(kept["pixels"])
    counts = count_pixels(dataset)
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as scratch:
        scratch.write_text(json.dumps({**about, "pixels": counts.tolist()}))
    return counts


@DATASETS.register_module()
class RareClassSampling(Dataset):
    """Samples of a data set, those with rare classes more often than they occur.

    A class is drawn by `class_probabilities`, then an image that shows enough of it; as the
    pipeline crops at random, it runs until enough of the class is left. Numbers are drawn by
    NumPy's global generator, as pipelines do; the index of a sample only counts.

    Args:
        dataset: Config of a data set of mmseg with labels.
        temperature: Of `class_probabilities`.
        min_pixels: Of its class that a drawn image has more of.
        crop_share: Of `min_pixels` that a crop must keep more of.
        tries: Most crops; the last one is taken as it is.
        counts_file: Where the pixels of each class are written when first counted; None counts
            anew in every run. A large data set takes minutes.

    Raises:
        ValueError: No image has enough of any class.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any],
        temperature: float = 0.01,
        min_pixels: int = 3000,
        crop_share: float = 0.5,
        tries: int = 10,
        counts_file: str | None = None,
    ):
        self.dataset = DATASETS.build(dataset)
        self.metainfo = self.dataset.metainfo
        self.enough = min_pixels * crop_share
        self.tries = tries
        if counts_file is None:
            counts = count_pixels(self.dataset)
        else:
            counts = kept_counts(self.dataset, Path(counts_file))
        self.images = [np.flatnonzero(own > min_pixels) for own in counts.T]
        found = np.array([len(images) > 0 for images in self.images])
        if not found.any():
            raise ValueError(
                f"no image has more than min_pixels={min_pixels} pixels of one class; lower it"
            )
        # classes without any image are not drawn
        chances = class_probabilities(counts.sum(0), temperature) * found
        self.probabilities = chances / chances.sum()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        label = np.random.choice(len(self.images), p=self.probabilities)  # noqa: NPY002
        image = np.random.choice(self.images[label])  # noqa: NPY002
        for _ in range(self.tries):
            sample = self.dataset[image]
            labels = sample["data_samples"].gt_sem_seg.data
            if int((labels == label).sum()) > self.enough:
                break
        return sample


@DATASETS.register_module()
class DomainPairs(Dataset):
    """Dicts of ``source``, a sample with labels, and ``target``, one without, drawn evenly.

    Args:
        source: Config of a data set with labels, or of `RareClassSampling`.
        target: Config of a data set of mmseg whose pipeline loads no labels.

    Raises:
        ValueError: The target's samples have labels.
    """

    def __init__(self, source: Mapping[str, Any], target: Mapping[str, Any]):
        self.source = DATASETS.build(source)
        self.target = DATASETS.build(target)
        self.metainfo = self.source.metainfo
        if "gt_sem_seg" in self.target[0]["data_samples"]:
            raise ValueError(
                "the target has labels, which nothing may see; leave LoadAnnotations out of its "
                "pipeline"
            )

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, dict[str, Any]]:
        target = self.target[np.random.randint(len(self.target))]  # noqa: NPY002
        return {"source": self.source[index], "target": target}
