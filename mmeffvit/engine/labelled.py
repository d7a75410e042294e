"""Samples of a config's data sets with their labels, as they are on disk."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmeffvit.configs import type_name
from mmeffvit.datasets.checks.findings import spread
from mmeffvit.engine.data import iter_datasets


def load_labelled(cfg: Config, split: str, number: int = 8) -> tuple[list[dict], dict[str, Any]]:
    """Load samples with their labels, and nothing else of the pipeline.

    Args:
        cfg: A config of an OpenMMLab toolbox.
        split: 'train', 'val' or 'test'.
        number: Samples, evenly from the first to the last.

    Returns:
        The dicts of the pipeline after its loading steps, and what the data set knows of itself.
    """
    (dataset, *_) = iter_datasets(cfg[f"{split}_dataloader"]["dataset"])
    dataset = copy.deepcopy(dict(dataset))
    dataset["pipeline"] = _loading(dataset.get("pipeline") or [])
    with (
        DefaultScope.overwrite_default_scope(cfg.get("default_scope") or "mmengine"),
        DATASETS.switch_scope_and_registry(None) as registry,
    ):
        built = registry.build(dataset)
        samples = [built[index] for index in spread(range(len(built)), number)]
    return [sample for sample in samples if sample is not None], dict(built.metainfo)


def _loading(pipeline: Sequence) -> list:
    """Steps that read files; masks become bitmaps, so that they can be drawn."""
    steps = [step for step in pipeline if type_name(step).startswith("Load")]
    return [{**step, "poly2mask": True} if step.get("with_mask") else step for step in steps]
