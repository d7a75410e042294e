"""Golden files of CSWin: one branch of its attention alone, with LePE."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmeffvit.layers.mixers.cross_shaped import CrossShapedAttention, WindowLePE
from mmeffvit.models.network import Network
from mmeffvit.testing.families.base import PyramidGolden, named


class CSWinGolden(PyramidGolden):
    family = "cswin"
    system = "CSWin"

    def is_normed(self, meta: dict, tensors: dict[str, Tensor]) -> bool:
        return "state/norm1.weight" in tensors

    def arch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        depths, stripes = params["depths"], params.get("split_size", (1, 2, 7, 7))
        if isinstance(stripes, int):
            stripes = (stripes,) * len(depths)
        return {
            "embed_dims": tuple(params["embed_dim"] * 2**i for i in range(len(depths))),
            "depths": depths,
            "num_heads": params["heads"],
            "mlp_ratios": (params.get("mlp_ratio", 4),) * len(depths),
            # the last stage attends to the whole map, whatever its width
            "stripe_widths": (*stripes[:-1], None),
        }

    def small_arch(self, cls: type[Network], variant: str) -> dict[str, Any]:
        # narrow enough for more than one stripe on the maps of small images
        return {**super().small_arch(cls, variant), "stripe_widths": (1, 2, 3, None)}

    def operator_outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        notes = meta.get("notes", "")
        width, heads = (
            int(found[1]) if (found := re.search(pattern, notes)) else default
            for pattern, default in ((r"stripe width (\d+)", 3), (r"(\d+) heads", 4))
        )
        windows = {"vertical": (None, width), "horizontal": (width, None), "full": (None, None)}
        results = {}
        for name, window in windows.items():
            prefix = f"op/lepe_{name}/"
            if f"{prefix}in/qkv" not in tensors:
                continue
            qkv = tensors[f"{prefix}in/qkv"]  # (B, 3, C, H, W)
            tokens = qkv.flatten(3).transpose(2, 3).unflatten(-1, (heads, -1)).unbind(1)
            attended = CrossShapedAttention((window,))(*tokens, qkv.shape[-2:])
            lepe = WindowLePE(qkv.shape[2], window)
            lepe.load_state_dict(named(tensors, f"{prefix}state/get_v."))
            enhanced = lepe(qkv[:, 2]).flatten(2).transpose(1, 2)
            results[f"{prefix}out"] = attended.flatten(2) + enhanced
        return results
