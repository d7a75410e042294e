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

from mmeffvit.testing.families import FAMILIES
from mmeffvit.testing.families.base import named

#: largest absolute error allowed in float32, by family
TOLERANCES = {name: family.tolerance for name, family in FAMILIES.items()}


def read_golden(path: str | os.PathLike) -> tuple[dict, dict[str, Tensor]]:
    """What a golden file says of itself, and its arrays by name."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    meta = json.loads(str(arrays.pop("meta"))) if "meta" in arrays else {}
    return meta, {key: torch.from_numpy(value) for key, value in arrays.items()}


def golden_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """The weights in a golden file, under the authors' keys."""
    return named(read_golden(path)[1], "state/")


def _family_of(meta: dict, path: str | os.PathLike) -> str:
    # newer files name a model, those of operators say what they are
    system = meta.get("system", meta.get("model", meta.get("what")))
    found = [
        name
        for name, family in FAMILIES.items()
        if system and re.match(rf"{re.escape(family.system)}(?!\w)", system)
    ]
    if not found:
        raise ValueError(
            f"'{path}' is not a golden file of a known family but of {system!r}; "
            f"known are {', '.join(family.system for family in FAMILIES.values())}"
        )
    return max(found, key=lambda name: len(FAMILIES[name].system))


def golden_family(path: str | os.PathLike) -> str:
    """The family whose numbers a golden file holds.

    Raises:
        ValueError: It is none that is known here.
    """
    return _family_of(read_golden(path)[0], path)


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
    return golden_errors(path)


def golden_errors(path: str | os.PathLike, device: torch.device | str = "cpu") -> dict[str, float]:
    """As :func:`check_golden`, on any device: the network is made and run there."""
    meta, tensors = read_golden(path)
    there = {key: value.to(device) for key, value in tensors.items()}
    with torch.no_grad(), torch.device(device):
        actual = FAMILIES[_family_of(meta, path)].outputs(meta, there)
    actual = {key: value.cpu() for key, value in actual.items()}
    # what a file does not hold is not compared: files may have fewer outputs than a family knows
    errors = {key: _error(value, tensors[key]) for key, value in actual.items() if key in tensors}
    outputs = {key for key in tensors if "state/" not in key and "out" in re.split("[/_]", key)}
    outputs |= {key for key in tensors if re.match(r"\w*out\d*/", key)}
    if outputs - errors.keys():
        raise ValueError(f"'{path}' has outputs that are not understood: {outputs - errors.keys()}")
    return errors


def _error(actual: Tensor, expected: Tensor) -> float:
    if actual.shape != expected.shape:
        return float("inf")
    if not expected.is_floating_point():
        return float((actual != expected).sum())
    return (actual - expected).abs().max().item()
