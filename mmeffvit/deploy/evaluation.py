"""The score of an exported model on the test set of a config, by the toolbox's own metric."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, init_default_scope
from mmengine.structures import BaseDataElement, InstanceData, PixelData

from mmeffvit.runtime import OnnxModel


def images_of(dataset: Any, count: int | None = None) -> Iterator[np.ndarray]:
    """The first images of a data set, (H, W, C) uint8, as its pipeline prepares them."""
    for index in range(min(len(dataset), count or len(dataset))):
        yield dataset[index]["inputs"].permute(1, 2, 0).numpy()


def build_dataset(cfg: Config, loader: str = "test_dataloader") -> Any:
    """The data set of a loader, with the pipeline of the test loader."""
    init_default_scope(cfg.get("default_scope", "mmengine"))
    dataset = dict(cfg[loader].dataset)
    dataset["pipeline"] = cfg.test_dataloader.dataset.pipeline
    return DATASETS.build(dataset)


def evaluate(model: OnnxModel, cfg: Config) -> dict[str, float]:
    """Run an exported model over the test set.

    Args:
        model: A file that takes pixels.
        cfg: With ``test_dataloader`` and ``test_evaluator``.

    Returns:
        What the config's metrics say, by their names.
    """
    dataset = build_dataset(cfg)
    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        item = dataset[index]
        image = item["inputs"].permute(1, 2, 0).numpy()
        sample = item["data_samples"]
        size = tuple(sample.metainfo.get("ori_shape", image.shape[:2])[:2])
        outputs = model.run(image.transpose(2, 0, 1)[None])
        found = model.interpret(outputs, size, image.shape[:2], score_thr=0.0)
        _add(sample, found)
        evaluator.process([sample], {"inputs": [item["inputs"]], "data_samples": [sample]})
    return evaluator.evaluate(len(dataset))


def _add(sample: BaseDataElement, found: dict[str, Any]) -> None:
    """What was found, where metrics look for it."""
    if "label_map" in found:
        sample.pred_sem_seg = PixelData(data=torch.from_numpy(found["label_map"])[None])
    elif "boxes" in found:
        names = {"boxes": "bboxes", "scores": "scores", "labels": "labels", "masks": "masks"}
        there = {new: torch.from_numpy(found[old]) for old, new in names.items() if old in found}
        sample.pred_instances = InstanceData(**there)
    else:
        sample.set_pred_score(torch.from_numpy(found["scores"]))
        sample.set_pred_label(found["label"])
