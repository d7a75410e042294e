"""OpenMMLab metafiles: reading them, measuring the models in them, and writing the numbers back.

`model-index.yml` lists the metafiles, each with collections (a network with its paper) and models
(configs). Beside OpenMMLab's keys ours have two of their own: a model's ``Published`` holds the
figures of the paper (``Parameters (M)``, ``FLOPs (G)`` and metrics), and a collection's
``Published In`` says where they were read. Among ``Results``, without which mmpretrain lists no
model, a metric whose name ends in ``(published)`` is the paper's as well.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmeffvit.analysis.complexity import Complexity, count_complexity, count_detector


@dataclass(frozen=True)
class Task:
    """What a data set stands for.

    Attributes:
        title: Heading of its models.
        size: Height and width that models are counted at; None if parameters alone are.
        count: How.
    """

    title: str
    size: tuple[int, int] | None = None
    count: Callable[[nn.Module, tuple[int, int]], Complexity] | None = None


TASKS: dict[str, Task] = {
    "ImageNet-1K": Task("Image classification", (224, 224), count_complexity),
    "COCO": Task("Object detection and instance segmentation", (800, 1280), count_detector),
    "ADE20K": Task("Semantic segmentation", (512, 2048), count_complexity),
    # what a network of points does depends on where the points are
    "S3DIS": Task("Segmentation of point clouds: S3DIS"),
    "ScanNet": Task("Segmentation of point clouds: ScanNet"),
    "ScanNet200": Task("Segmentation of point clouds: ScanNet200"),
    "Waymo": Task("Detection in point clouds: Waymo"),
}
"""By the ``Training Data`` of a model; the sizes are those of the papers' tables."""

_PUBLISHED = " (published)"

MEASURED: dict[str, Callable[[Complexity], int]] = {
    "Parameters": lambda result: result.total_params,
    "FLOPs": lambda result: result.total_macs,
    "Attention FLOPs": lambda result: result.macs_of("attention"),
    "Norm FLOPs": lambda result: result.macs_of("norm"),
}
"""Keys of a model's ``Metadata`` that `measure` fills in; "FLOPs" are multiply-accumulates, as
everywhere in OpenMMLab. See `mmeffvit.analysis.complexity` for what they count."""


@dataclass(frozen=True, eq=False)
class Model:
    """A config and what is known about it; `metadata` includes the collection's."""

    name: str
    config: str
    metadata: Mapping[str, Any]
    published: Mapping[str, Any]
    results: Mapping[str, float]

    @property
    def data(self) -> str:
        """A key of `TASKS`."""
        return self.metadata["Training Data"]


@dataclass(frozen=True)
class Collection:
    """A network: its paper and its models.

    A name may end in a remark in brackets, which tells collections of one network apart.
    """

    name: str
    metafile: Path
    paper: Mapping[str, str]
    readme: str
    published_in: str
    models: list[Model] = field(default_factory=list)

    @property
    def network(self) -> str:
        """The name without a remark."""
        return self.name.partition(" (")[0]


def read_metafiles(root: str | os.PathLike) -> list[Collection]:
    """All collections, in the order of ``model-index.yml``.

    Args:
        root: The folder of ``model-index.yml``.

    Raises:
        ValueError: If a model is of no collection of its file, or trained on data unknown here.
    """
    root = Path(root)
    collections = []
    for name in _read(root / "model-index.yml")["Import"]:
        content = _read(root / name)
        shared = {entry["Name"]: entry for entry in content["Collections"]}
        of_file = {
            key: Collection(
                key, root / name, entry["Paper"], entry["README"], entry.get("Published In", "")
            )
            for key, entry in shared.items()
        }
        for entry in content["Models"]:
            key = entry["In Collection"]
            if key not in of_file:
                raise ValueError(
                    f"{name}: {entry['Name']} is in the collection '{key}', but the file has "
                    f"{', '.join(of_file)}"
                )
            metadata = {**shared[key].get("Metadata", {}), **entry["Metadata"]}
            of_file[key].models.append(_model(entry, metadata, name))
        collections += of_file.values()
    return collections


def _model(entry: Mapping[str, Any], metadata: Mapping[str, Any], metafile: str) -> Model:
    if metadata.get("Training Data") not in TASKS:
        raise ValueError(
            f"{metafile}: {entry['Name']} needs 'Training Data' in its 'Metadata', or in that of "
            f"its collection: one of "
            f"{', '.join(TASKS)} (maintenance.metafiles.TASKS); got "
            f"{metadata.get('Training Data')!r}"
        )
    published, results = dict(entry.get("Published", {})), {}
    for result in entry.get("Results", []):
        for key, value in result["Metrics"].items():
            if key.endswith(_PUBLISHED):
                published[key.removesuffix(_PUBLISHED)] = value
            else:
                results[key] = value
    return Model(entry["Name"], entry["Config"], metadata, published, results)


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def measure(model: Model, root: str | os.PathLike) -> dict[str, int]:
    """Count the network of a model's config; no weights are made.

    Args:
        model: The keys of `MEASURED` in its metadata are what is measured: one whose forward pass
            cannot be counted, such as a set-based detector's or one of point clouds, has
            ``Parameters`` alone.
        root: The folder that its config's path is relative to.
    """
    return dict(measure_all([model], root))[model]


def measure_all(
    models: Iterable[Model], root: str | os.PathLike
) -> Iterator[tuple[Model, dict[str, int]]]:
    """`measure` for several; a network that more than one config trains is counted once."""
    known: dict[tuple[str, ...], dict[str, int]] = {}
    for model in models:
        cfg = _load(model, root)
        keys = [key for key in MEASURED if key in model.metadata]
        network = json.dumps(cfg.model.to_dict(), sort_keys=True, default=repr)
        identity = (model.data, *keys, network)
        if identity not in known:
            known[identity] = _count(cfg, TASKS[model.data], keys)
        yield model, known[identity]


def _load(model: Model, root: str | os.PathLike) -> Config:
    return Config.fromfile(Path(root) / model.config)


def _count(cfg: Config, task: Task, keys: list[str]) -> dict[str, int]:
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device("meta"):
        network = MODELS.build(cfg.model)
    if keys == ["Parameters"]:
        return {"Parameters": sum(param.numel() for param in network.parameters())}
    result = task.count(network, task.size)
    return {key: MEASURED[key](result) for key in keys}


def with_measured(text: str, measured: Mapping[str, Mapping[str, int]]) -> str:
    """A metafile's text with new numbers; everything else, comments too, stays as it is.

    Args:
        text: Of the metafile; every key and value of `MEASURED` stands on a line of its own.
        measured: Model name -> what `measure` gave.

    Raises:
        ValueError: If there is no line for a number.
    """
    numbers: Mapping[str, int] = {}
    missing = {(name, key) for name in measured for key in measured[name]}
    lines, name = [], ""
    for line in text.splitlines(keepends=True):
        if match := re.match(r"\s*- Name: *(\S+)", line):
            name = match.group(1)
            numbers = measured.get(name, {})
        elif (match := re.match(r"(\s+([\w ]+): *)\d+\b", line)) and match.group(2) in numbers:
            line = f"{match.group(1)}{numbers[match.group(2)]}{line[match.end() :]}"
            missing.discard((name, match.group(2)))
        lines.append(line)
    if missing:
        name, key = min(missing)
        raise ValueError(f"{name} has no line '{key}: 0' in its 'Metadata' to write the number to")
    return "".join(lines)
