"""Golden files of MSA-Conv, the operator of TiC, alone: its network was not published."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mmeffvit.layers import MapContext
from mmeffvit.layers.mixers.base import to_map
from mmeffvit.layers.msa_conv import MSAConv2d
from mmeffvit.testing.families.base import GoldenFamily, named


class TiCGolden(GoldenFamily):
    family = "tic"
    system = "TiC"

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        results = {}
        for case, options in meta["cases"].items():
            outs = _case(options, named(tensors, case))
            results |= {f"{case}{key}": value for key, value in outs.items()}
        return results


def _case(options: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    layer = MSAConv2d(
        options["input_channel"],
        options["output_channel"],
        options["kernel_size"],
        **{
            key: options[key] for key in ("stride", "padding", "dilation", "bias") if key in options
        },
    ).eval()
    names = {"qkv_conv": "qkv", "mlp": "conv"}
    state = {}
    for key, value in named(tensors, "state/").items():
        part, _, kind = key.partition(".")
        state[f"{names[part]}.{kind}"] = value
    layer.load_state_dict(state)
    x = tensors["in/x"]
    context = MapContext.of(x)
    parts = layer.qkv(x)
    results = {f"mid/{n}": to_map(part, context) for n, part in zip("qkv", parts)}
    results["mid/attn_out"] = to_map(layer.core(*parts, context.size), context)
    return {**results, "out": layer(x)}
