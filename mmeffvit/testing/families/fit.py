"""Golden files of FIT's encoder: groups of tokens, and latents that go from block to block."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.latents import NORM_EPS, EncoderLayer, LatentExchange
from mmeffvit.testing.families.base import GoldenFamily, named

_PARTS = {
    "mha_ln": "norm1",
    "ffn_ln": "norm2",
    "ln": "norm",
    "enc_ln": "other_norm",
    "mha.query": "attn.q",
    "mha.out": "attn.proj",
}


class FITGolden(GoldenFamily):
    family = "fit"
    system = "FIT encoder"

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        weights = named(tensors, "state/")
        streams = (meta["x_dim"], meta["x_heads"]), (meta["latent_dim"], meta["latent_heads"])
        x = F.linear(tensors["input"], weights["stem.weight"], weights["stem.bias"])
        batch, groups = x.shape[:2]
        x = (_norm(x, weights, "stem_ln") + weights["x_pos"]).flatten(0, 1)  # (B G, n, C)
        latents = weights["latents"].expand(batch, -1, -1, -1).flatten(0, 1)
        results = {}
        # "(1)2(2)1": local layers in brackets, then those of all latents
        depths = re.findall(r"\((\d+)\)(\d*)", meta["layers"])
        for index, (local, glob) in enumerate(depths):
            own = named(weights, f"block{index}.")
            for layer in range(int(local)):
                x = _load(EncoderLayer(*streams[0], meta["mlp_ratio"]), own, f"local{layer}.")(x)
            if glob and int(glob):
                latents = latents + _exchange(own, "read.", *streams[::-1])(latents, x)
                latents = latents.unflatten(0, (batch, groups)).flatten(1, 2)
                for layer in range(int(glob)):
                    part = EncoderLayer(*streams[1], meta["mlp_ratio"])
                    latents = _load(part, own, f"global{layer}.")(latents)
                latents = latents.unflatten(1, (groups, -1)).flatten(0, 1)
                if index < len(depths) - 1:
                    x = x + _exchange(own, "write.", *streams)(x, latents)
            for name, tokens in (("x", x), ("latents", latents)):
                results[f"out/block{index}_{name}"] = tokens.unflatten(0, (batch, groups))
        for name, tokens in (("x", x), ("latents", latents)):
            normed = _norm(tokens, weights, f"{name[0]}_out_ln")
            results[f"out/{name}"] = normed.unflatten(0, (batch, groups))
        return results


def _norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return F.layer_norm(x, x.shape[-1:], scale, shift, NORM_EPS)


def _exchange(
    weights: dict[str, Tensor], prefix: str, own: tuple[int, int], other: tuple[int, int]
) -> nn.Module:
    return _load(LatentExchange(*own, *other), weights, prefix)


def _load(module: nn.Module, weights: dict[str, Tensor], prefix: str) -> nn.Module:
    """Give a layer its weights, keys and values as one projection."""
    found = named(weights, prefix)
    state = {}
    for kind in ("weight", "bias"):
        parts = [found.pop(f"mha.{part}.{kind}") for part in ("key", "value")]
        state[f"attn.kv.{kind}"] = torch.cat(parts)
    for key, value in found.items():
        part, _, kind = key.rpartition(".")
        state[f"{_PARTS.get(part, part)}.{kind}"] = value
    module.load_state_dict(state)
    return module.eval()
