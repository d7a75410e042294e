"""Golden files: numbers of the authors' implementations, which ours must reproduce.

A file holds ``meta`` (JSON: the authors' constructor arguments), the weights (``state/<official
key>``), an input, the map of every stage, logits, and the core operator alone (``op/...``). Sizes,
depths and windows may be any. Every output in the file is compared; one that is not understood is
an error.
"""

from __future__ import annotations

import json
import os
import re

import numpy as np
import torch
from torch import Tensor

from mmeffvit.checkpoint import convert_official, load_weights
from mmeffvit.models import PyramidClassifier
from mmeffvit.models.zoo import backbone_classes
from mmeffvit.testing.families import FAMILIES

#: largest absolute error allowed in float32, by family
TOLERANCES = {name: family.TOLERANCE for name, family in FAMILIES.items()}

_SYSTEMS = {family.SYSTEM: name for name, family in FAMILIES.items()}


def golden_family(path: str | os.PathLike) -> str:
    """The family whose numbers a golden file holds.

    Raises:
        ValueError: It is none that is known here.
    """
    with np.load(path, allow_pickle=False) as file:
        meta = json.loads(str(file["meta"])) if "meta" in file.files else {}
    # files of operators say what they are, those of networks which system they come from
    system = meta.get("system", meta.get("what"))
    if system not in _SYSTEMS:
        raise ValueError(
            f"'{path}' is not a golden file of a known family but of {system!r}; "
            f"known are {', '.join(_SYSTEMS)}"
        )
    return _SYSTEMS[system]


def check_golden(path: str | os.PathLike) -> dict[str, float]:
    """Rebuild the network of a golden file and compare all its outputs.

    Args:
        path: The .npz file.

    Returns:
        Output name -> largest absolute error; for integer outputs the number of entries that
        differ.

    Raises:
        ValueError: The file is of no known family, or has an output that is not understood.
    """
    family = golden_family(path)
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    meta = json.loads(str(arrays.pop("meta")))
    tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
    with torch.no_grad():
        actual = _outputs(family, meta, tensors)
    errors = {name: _error(value, tensors[name]) for name, value in actual.items()}
    outputs = {key for key in tensors if "/state/" not in key and "out" in re.split("[/_]", key)}
    if outputs - errors.keys():
        raise ValueError(f"'{path}' has outputs that are not understood: {outputs - errors.keys()}")
    return errors


def _outputs(family: str, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    module = FAMILIES[family]
    if hasattr(module, "check"):
        return module.check(meta, tensors)
    network = _build(family, meta["constructor"], tensors)
    return _network_outputs(network, tensors) | module.outputs(meta, tensors, network)


def _error(actual: Tensor, expected: Tensor) -> float:
    if actual.shape != expected.shape:
        return float("inf")
    if not expected.is_floating_point():
        return float((actual != expected).sum())
    return (actual - expected).abs().max().item()


def _build(family: str, constructor: dict, tensors: dict[str, Tensor]) -> PyramidClassifier:
    cls = backbone_classes()[family]
    # files of dense backbones hold maps with and without the norm on each output
    normed = "out/raw_stage0" in tensors
    backbone = cls(arch=cls.arch_from_official(constructor), out_norm=normed)
    network = PyramidClassifier(backbone, constructor["num_classes"], constructor["projection"])
    official = {
        key.removeprefix("state/"): value
        for key, value in tensors.items()
        if key.startswith("state/")
    }
    load_weights(network, convert_official(official, family).state_dict)
    return network.eval()


def _network_outputs(network: PyramidClassifier, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    feats = network.backbone(tensors["input"])
    outputs = {f"out/stage{i}": feat for i, feat in enumerate(feats)}
    if network.backbone.out_norm:
        network.backbone.out_norm = False
        feats = network.backbone(tensors["input"])
        outputs |= {f"out/raw_stage{i}": feat for i, feat in enumerate(feats)}
    outputs["out/logits"] = network.head(feats)
    return outputs
