"""Golden files of FaViT: its attention alone, with and without a reduction."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmeffvit.checkpoint import convert_official
from mmeffvit.layers import FactorizationMixer, MapContext
from mmeffvit.models.network import Network
from mmeffvit.testing.families.base import PyramidGolden, named


class FaViTGolden(PyramidGolden):
    family = "favit"
    system = "FaViT"

    def arch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        keys = ("embed_dims", "depths", "num_heads", "mlp_ratios")
        return {
            **{key: tuple(params[key]) for key in keys},
            "reductions": tuple(params["sr_ratios"]),
            "window_size": params.get("window", 7),
        }

    def small_arch(self, cls: type[Network], variant: str) -> dict[str, Any]:
        # fewer channels than these cannot be split
        return {**super().small_arch(cls, variant), "embed_dims": (16, 32, 64, 64)}

    def is_normed(self, meta: dict, tensors: dict[str, Tensor]) -> bool:
        return False

    def operator_outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        results = {}
        for out in [key for key in tensors if re.fullmatch(r"op/attn_\w+/out", key)]:
            prefix = out.removesuffix("out")
            results[out] = _attention(meta, named(tensors, prefix))
        return results


def _attention(meta: dict, tensors: dict[str, Tensor]) -> Tensor:
    """The module of the authors alone, on tokens (B, L, C)."""
    official = {f"block1.0.attn.{key}": value for key, value in named(tensors, "state/").items()}
    state = named(
        convert_official(official, "favit").state_dict, "backbone.stages.0.blocks.0.mixer."
    )
    size = tensors["in/HW"].tolist()
    x = tensors["in/x"].transpose(1, 2).unflatten(2, size)
    local = state["summaries.0.enhance.bias"].numel()
    mixer = FactorizationMixer(
        x.shape[1],
        local // len(state["summaries.0.fc.bias"]),
        state["reduced.reduce.weight"].shape[-1],
        int(found[1]) if (found := re.search(r"window (\d+)", meta.get("notes", ""))) else 7,
    )
    mixer.load_state_dict(state)
    return mixer(x, MapContext.of(x)).flatten(2).transpose(1, 2)
