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
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mmeffvit.checkpoint import convert_official, load_weights
from mmeffvit.layers import MapContext, SECMixer
from mmeffvit.models import PyramidClassifier
from mmeffvit.models.zoo import backbone_classes
from mmeffvit.ops import apply_rotary, rotary_table_2d, sec_cluster_ids

#: largest absolute error allowed in float32, by family
TOLERANCES = {"secvit": 1e-4}

_SYSTEMS = {"SecViT": "secvit"}


def golden_family(path: str | os.PathLike) -> str:
    """The family whose numbers a golden file holds.

    Raises:
        ValueError: It is none that is known here.
    """
    with np.load(path, allow_pickle=False) as file:
        system = json.loads(str(file["meta"])).get("system") if "meta" in file.files else None
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
    errors = {}
    with torch.no_grad():
        for name, actual in _network_outputs(family, meta, tensors).items():
            errors[name] = _error(actual, tensors[name])
        for name, actual in _OPERATORS[family](meta, tensors).items():
            errors[name] = _error(actual, tensors[name])
    outputs = {key for key in tensors if "/state/" not in key and "out" in re.split("[/_]", key)}
    if outputs - errors.keys():
        raise ValueError(f"'{path}' has outputs that are not understood: {outputs - errors.keys()}")
    return errors


def _error(actual: Tensor, expected: Tensor) -> float:
    if actual.shape != expected.shape:
        return float("inf")
    if not expected.is_floating_point():
        return float((actual != expected).sum())
    return (actual - expected).abs().max().item()


def _network_outputs(family: str, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    constructor = meta["constructor"]
    cls = backbone_classes()[family]
    backbone = cls(arch=cls.arch_from_official(constructor), out_norm=False)
    network = PyramidClassifier(backbone, constructor["num_classes"], constructor["projection"])
    official = {
        key.removeprefix("state/"): value
        for key, value in tensors.items()
        if key.startswith("state/")
    }
    load_weights(network, convert_official(official, family).state_dict)
    network.eval()
    feats = network.backbone(tensors["input"])
    outputs = {f"out/stage{i}": feat for i, feat in enumerate(feats)}
    outputs["out/logits"] = network.head(feats)
    return outputs


def _secvit_operators(meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if "op_sec_attn" not in meta:
        return {}
    op = meta["op_sec_attn"]
    renamed = {"out_proj": "proj"}
    state = {}
    for key, value in tensors.items():
        if key.startswith("op/sec_attn/state/"):
            layer, _, kind = key.removeprefix("op/sec_attn/state/").partition(".")
            state[f"{renamed.get(layer, layer)}.{kind}"] = value
    x = tensors["op/sec_attn/in/x"]
    context = MapContext.of(x)
    outputs = {}
    for name, clusters in (("sec_attn", op["num_clusters"]), ("full_attn", -1)):
        mixer = SECMixer(op["embed_dim"], op["num_heads"], clusters)
        mixer.load_state_dict(state)
        outputs[f"op/{name}/out"] = mixer(x, context)
    qkv = mixer.qkv(x).flatten(2).transpose(1, 2).unflatten(-1, (3, op["num_heads"], -1))
    table = rotary_table_2d(op["H"], op["W"], mixer.head_dim)
    keys = apply_rotary(qkv[:, :, 1], table)
    outputs["op/sec_attn/out_cluster_id"] = sec_cluster_ids(keys, op["num_clusters"])
    for i, name in enumerate(("cos", "sin")):
        outputs[f"op/sec_attn/in/{name}"] = table[..., i].repeat_interleave(2, dim=-1)
    return outputs


_OPERATORS: dict[str, Callable[[dict, dict[str, Tensor]], dict[str, Tensor]]] = {
    "secvit": _secvit_operators
}
