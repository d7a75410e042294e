"""Golden files of SSViT: sparse scan attention both ways, and neighbourhood attention alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmeffvit.layers import MapContext, S3AMixer
from mmeffvit.ops import neighbour_positions, neighbourhood_attention
from mmeffvit.testing.families.base import ConvPyramidGolden, load_mixer, table_outputs


class SSViTGolden(ConvPyramidGolden):
    family = "ssvit"
    system = "SSViT"
    tolerance = 2e-4

    def arch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        # the authors' lists may be longer than a stage is deep
        depths = params["depths"]
        return {
            **super().arch(params),
            "window_sizes": [w[:n] for w, n in zip(params["window_sizess"], depths)],
            "reverse": [r[:n] for r, n in zip(params["is_reversess"], depths)],
        }

    def operator_outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        results = {}
        if "op_s3a" in meta:
            for name, reverse in (("s3a_forward", False), ("s3a_reverse", True)):
                results |= _mixer_outputs(meta["op_s3a"], tensors, f"op/{name}", reverse)
        if "op_na2d" in meta:
            results |= _attention_outputs(meta["op_na2d"], tensors)
        return results


def _mixer_outputs(
    op: dict, tensors: dict[str, Tensor], prefix: str, reverse: bool
) -> dict[str, Tensor]:
    mixer = S3AMixer(op["embed_dim"], op["num_heads"], op["window_size"], reverse)
    load_mixer(mixer, tensors, f"{prefix}/state/")
    x = tensors[f"{prefix}/in/x"]
    context = MapContext.of(x)
    table = mixer.positions(context).table.unflatten(0, context.size)
    return {f"{prefix}/out": mixer(x, context), **table_outputs(f"{prefix}/in", table)}


def _attention_outputs(op: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    kernel, dilation = op["kernel"], op["dilation"]
    # (B, h, H, W, d) and no scale in the file
    q, k, v = (tensors[f"op/na2d/in/{name}"].permute(0, 2, 3, 1, 4) for name in "qkv")
    out = neighbourhood_attention(q, k, v, kernel, dilation, scale=1.0)
    rows, columns = (neighbour_positions(op[side], kernel, dilation) for side in "HW")
    keys = k[:, rows][:, :, :, columns]  # (B, H, k, W, k, h, d)
    logits = torch.einsum("bywhd,byiwjhd->bhywij", q, keys).flatten(-2)
    return {
        "op/na2d/out": out.permute(0, 3, 1, 2, 4),
        "op/na2d/out_logits": logits,
        "op/na2d/out_start_h": rows[:, 0],
        "op/na2d/out_start_w": columns[:, 0],
    }
