"""Golden files of attention with universal relative positions, on a map."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.layers import MapContext, URPEMixer
from mmeffvit.ops.relative_attention import by_query_and_key
from mmeffvit.testing.families.base import GoldenFamily, named


class URPEGolden(GoldenFamily):
    family = "urpe"
    system = "URPE"

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        case = named(tensors, "op/urpe_attn/")
        size = tuple(case["in/hw"].tolist())
        mixer = _mixer(meta, named(case, "state/"))
        x = case["in/x"].transpose(1, 2).unflatten(2, size)
        context = MapContext.of(x)
        offsets = torch.arange(len(case["state/rel_bias"]), device=x.device)
        numbers = offsets.view(1, *(2 * n - 1 for n in size))
        results = {
            "mid/index": by_query_and_key(numbers, size)[0],
            "mid/attn": _weights(mixer, x, context),
            "out": mixer(x, context).flatten(2).transpose(1, 2),
        }
        return {f"op/urpe_attn/{key}": value for key, value in results.items()}


def _mixer(meta: dict, weights: dict[str, Tensor]) -> URPEMixer:
    grid = meta["H"], meta["W"]
    mixer = URPEMixer(meta["C"], meta["heads"], window_size=None, grid_size=grid)
    qkv = {
        f"qkv.{kind}": torch.cat([weights[f"{part}_proj.{kind}"] for part in "qkv"])
        for kind in ("weight", "bias")
    }
    state = {
        **qkv,
        **{f"proj.{kind}": weights[f"out_proj.{kind}"] for kind in ("weight", "bias")},
        "tables.bias.table": weights["rel_bias"][None],
        "tables.factor.table": weights["urpe"][None],
    }
    for name in ("qkv.weight", "proj.weight"):
        state[name] = state[name][..., None, None]
    mixer.load_state_dict(state)
    return mixer.eval()


def _weights(mixer: URPEMixer, x: Tensor, context: MapContext) -> Tensor:
    """(B, h, L, L): what the core makes of values that are one at a key and else zero."""
    q, k, v = mixer.qkv(x)
    ones = torch.eye(q.shape[1], device=x.device)[:, None].expand(-1, mixer.num_heads, -1)
    outs = [
        mixer.core(q, k, part.expand_as(v), mixer.positions(context))
        for part in ones.split(v.shape[-1], -1)
    ]
    return torch.cat(outs, -1).transpose(1, 2)
