"""Golden files of DuoFormer: tokens of regions through scale attention, then its classifier."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.models.necks.cross_scale_attention import CrossScaleAttention
from mmeffvit.models.necks.duoformer_keys import rows_first
from mmeffvit.ops.region_attention.fused import by_region
from mmeffvit.testing.families.base import GoldenFamily, named

#: rows and columns of regions
_GRID = (7, 7)


class DuoFormerGolden(GoldenFamily):
    family = "duoformer"
    system = "DuoFormer"

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        cfg, state = meta["cfg"], named(tensors, "state/")
        neck = self._neck(cfg, tensors)
        sides = [1, *(2**i for i in range(cfg["scales"]))]
        outs, results = [], {}
        for block in neck.blocks:
            block.register_forward_hook(lambda _, x, y: outs.append(y))
        tokens = rows_first(tensors["input"])
        neck.mix(_maps(tokens, sides), sides, None)
        for i, maps in enumerate(outs):
            results[f"out/scale_block{i}"] = rows_first(_tokens(maps, sides))
        region = _tokens(outs[-1], sides)[:, :, 0]
        results["out/region_tokens_after_scale"] = region
        results |= _classifier(region, state, cfg)
        for name in tensors:
            if name.startswith("op/tokenise/index_stage"):
                results[name] = _index(2 ** (3 - int(name[-1])))
        return results

    def _neck(self, cfg: dict[str, Any], tensors: dict[str, Tensor]) -> CrossScaleAttention:
        """Without projections and the token of regions, which the files have in their input."""
        dim = cfg["embed_dim"]
        sizes = {
            "num_heads": cfg["num_heads"],
            "depth": cfg["depth"],
            "mlp_ratio": cfg["mlp_ratio"],
        }
        neck = CrossScaleAttention([dim] * cfg["scales"], dim, **sizes)
        own = named(self.converted(tensors), CrossScaleAttention.prefix)
        found = neck.load_state_dict(own, strict=False)
        others = set(found.missing_keys) - {"scale_token"}
        if found.unexpected_keys or any(not key.startswith("projections") for key in others):
            raise ValueError(f"weights of another network: {found}")
        return neck


def _maps(tokens: Tensor, sides: list[int]) -> list[Tensor]:
    """(B, 49, T, C) to maps (B, C, 7 s, 7 s)."""
    maps = []
    for part, side in zip(tokens.split([s * s for s in sides], 2), sides):
        x = part.unflatten(2, (side, side)).unflatten(1, _GRID)  # (B, R, C, s, s, channels)
        maps.append(x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3))
    return maps


def _tokens(maps: list[Tensor], sides: list[int]) -> Tensor:
    parts = []
    for x, side in zip(maps, sides):
        grouped = by_region(x.permute(0, 2, 3, 1).unsqueeze(3), side)  # (B 49, 1, s^2, C)
        parts.append(grouped[:, 0].unflatten(0, (x.shape[0], -1)))
    return torch.cat(parts, 2)


def _index(side: int) -> Tensor:
    """(49, s^2) the pixels of each region."""
    rows, columns = (n * side for n in _GRID)
    pixels = torch.arange(rows * columns).view(1, rows, columns, 1, 1)
    index = by_region(pixels, side)[:, 0, :, 0]
    return index[:, [0, 2, 1, 3]] if side == 2 else index


def _classifier(region: Tensor, state: dict[str, Tensor], cfg: dict[str, Any]) -> dict[str, Tensor]:
    """Attention of a class token and the regions: no residual, no norm, no MLP, as published."""
    x = torch.cat((state["cls_token"].expand(len(region), -1, -1), region), 1) + state["pos_embed"]
    results = {}
    for i in range(cfg["depth"]):
        layers = named(state, f"blocks.{i}.attn.")
        qkv = F.linear(x, layers["qkv.weight"], layers["qkv.bias"])
        q, k, v = qkv.unflatten(2, (3, cfg["num_heads"], -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = F.linear(out, layers["proj.weight"], layers["proj.bias"])
        results[f"out/patch_block{i}"] = x
    # the norm before the head is made and not used
    logits = F.linear(x[:, 0], state["head.weight"], state["head.bias"])
    return {**results, "out/logits": logits}
