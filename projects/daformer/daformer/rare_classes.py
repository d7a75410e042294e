"""Pairs of a labelled and an unlabelled image; rare classes are drawn more often than they occur
(arXiv 2111.14887, section 3.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement
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
class DomainPairs(Dataset):
    """Dicts of ``source``, a sample with labels, and ``target``, one without.

    For the source, a class is drawn by `class_probabilities`, then an image that shows enough of
    it; as its pipeline crops at random, it runs until enough of the class is left. The target is
    drawn evenly. Numbers are drawn by NumPy's global generator, as pipelines do; the index of a
    sample only counts.

    Args:
        source: Config of a data set of mmseg with labels.
        target: Config of one whose pipeline loads no labels.
        temperature: Of `class_probabilities`; None draws the source evenly.
        min_pixels: Of its class that a drawn image has more of.
        crop_share: Of `min_pixels` that a crop must keep more of.
        tries: Most crops; the last one is taken as it is.
        counts_file: Where the pixels of each class are written when first counted; None counts
            anew in every run. A large data set takes minutes.
        length: Samples of an epoch; None for as many as the source has.

    Raises:
        ValueError: The target's samples have labels, or no image has enough of any class.
    """

    def __init__(
        self,
        source: Mapping[str, Any],
        target: Mapping[str, Any],
        temperature: float | None = 0.01,
        min_pixels: int = 3000,
        crop_share: float = 0.5,
        tries: int = 10,
        counts_file: str | None = None,
        length: int | None = None,
    ):
        self.source = DATASETS.build(source)
        self.target = DATASETS.build(target)
        self.metainfo = self.source.metainfo
        self.enough = min_pixels * crop_share
        self.tries = tries
        self.length = length or len(self.source)
        self.probabilities = None
        if temperature is not None:
            file = None if counts_file is None else Path(counts_file)
            counts = count_pixels(self.source) if file is None else kept_counts(self.source, file)
            self._by_class(counts, temperature, min_pixels)
        if "gt_sem_seg" in self.target[0]["data_samples"]:
            raise ValueError(
                "the target has labels, which nothing may see; leave LoadAnnotations out of its "
                "pipeline"
            )

    def _by_class(self, counts: np.ndarray, temperature: float, min_pixels: int) -> None:
        """Lists the images of each class; classes without any are not drawn."""
        self.images = [np.flatnonzero(own > min_pixels) for own in counts.T]
        found = np.array([len(images) > 0 for images in self.images])
        if not found.any():
            raise ValueError(
                f"no image has more than min_pixels={min_pixels} pixels of one class; lower it"
            )
        chances = class_probabilities(counts.sum(0), temperature) * found
        self.probabilities = chances / chances.sum()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, dict[str, Any]]:
        target = self.target[np.random.randint(len(self.target))]  # noqa: NPY002
        return {"source": self._draw_source(), "target": target}

    def _draw_source(self) -> dict[str, Any]:
        if self.probabilities is None:
            return self.source[np.random.randint(len(self.source))]  # noqa: NPY002
        label = np.random.choice(len(self.images), p=self.probabilities)  # noqa: NPY002
        image = np.random.choice(self.images[label])  # noqa: NPY002
        for _ in range(self.tries):
            sample = self.source[image]
            if self._pixels(sample["data_samples"], label) > self.enough:
                break
        return sample

    @staticmethod
    def _pixels(sample: BaseDataElement, label: int) -> int:
        return int((sample.gt_sem_seg.data == label).sum())
