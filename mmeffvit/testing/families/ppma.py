"""Golden files of PPMA: both forms of its attention alone, their tables, the masks of paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmeffvit.checkpoint import convert_official
from mmeffvit.layers import MapContext, PolylineMixer
from mmeffvit.layers.context import rotary_1d
from mmeffvit.ops.polyline_attention import line_masks, path_sums, polyline_mask
from mmeffvit.testing.families.base import ConvPyramidGolden, named, table_outputs


class PPMAGolden(ConvPyramidGolden):
    family = "ppma"
    system = "PPMA"

    def arch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {**super().arch(params), "decomposed": params["chunkwise_recurrents"]}

    def is_normed(self, meta: dict, tensors: dict[str, Tensor]) -> bool:
        return "state/outnorm0.weight" in tensors

    def operator_outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        results = {}
        for name, decomposed in (("chunk", True), ("whole", False)):
            prefix = f"op/{name}"
            if f"{prefix}/in/x" not in tensors:
                continue
            official = {
                f"layers.0.blocks.0.retention.{key}": value
                for key, value in named(tensors, f"{prefix}/state/").items()
            }
            x = tensors[f"{prefix}/in/x"].permute(0, 3, 1, 2)
            heads = len(official["layers.0.blocks.0.retention.path_embed.dt_bias"])
            mixer = PolylineMixer(x.shape[1], heads, decomposed)
            state = convert_official(official, "ppma").state_dict
            mixer.load_state_dict(named(state, "backbone.stages.0.blocks.0.mixer."))
            context = MapContext.of(x)
            results[f"{prefix}/out"] = mixer(x, context).permute(0, 2, 3, 1)
            tables = table_outputs(f"{prefix}/in", rotary_1d(context, mixer.head_dim))
            results |= {key: value.unflatten(0, context.size) for key, value in tables.items()}
            results |= _masks(mixer.steps(x), decomposed)
        return {name: value for name, value in results.items() if name in tensors}


def _masks(steps: Tensor, decomposed: bool) -> dict[str, Tensor]:
    if not decomposed:
        return {"op/mask_full/out": polyline_mask(steps)}
    row_sums, column_sums = path_sums(steps)
    return {
        "op/mask_w/out": line_masks(row_sums).transpose(1, 2),
        "op/mask_h/out": line_masks(column_sums.permute(0, 3, 1, 2)),
    }
