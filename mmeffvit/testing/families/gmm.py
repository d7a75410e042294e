"""Golden files of attention with Gaussian mixture masks, in a plain ViT without a class token."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mmeffvit.layers import GaussianMixtureMixer, MapContext
from mmeffvit.layers.offset_tables import GaussianMixtureGain
from mmeffvit.ops.relative_attention import by_query_and_key
from mmeffvit.testing.families.base import GoldenFamily, named


class GMMGolden(GoldenFamily):
    family = "gmm"
    system = "GMM attention"

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        cfg = meta["cfg"]
        side = cfg["img_size"] // cfg["patch_size"]
        results = {"op/base_mask/out": _base_mask(tensors["op/base_mask/out"], side)}
        gain = GaussianMixtureGain(cfg["heads"], cfg["num_kernels"], truncate=True)
        gain.load_state_dict(
            {name: tensors[f"op/gmm_mask/in/{name}"].flatten(1) for name in ("sigma", "alpha")}
        )
        results["op/gmm_mask/out"] = by_query_and_key(gain.of_window((side, side)), (side, side))
        x = _to_map(tensors["op/gmm_attn/in/x"], side)
        mixer = _mixer(cfg, named(tensors, "op/gmm_attn/state/"))
        results["op/gmm_attn/out"] = _to_tokens(mixer(x, MapContext.of(x)))
        return results | _network(cfg, named(tensors, "state/"), tensors["input"])


def _base_mask(like: Tensor, side: int) -> Tensor:
    """One kernel of sigma and alpha one."""
    gain = GaussianMixtureGain(1, 1, truncate=True)
    gain.load_state_dict(
        {"sigma": like.new_full((1, 1), (1 - 1e-5) ** 0.5), "alpha": like.new_ones(1, 1)}
    )
    return by_query_and_key(gain.of_window((side, side)), (side, side))[None]


def _to_map(tokens: Tensor, side: int) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def _to_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _mixer(cfg: dict[str, Any], weights: dict[str, Tensor]) -> GaussianMixtureMixer:
    options = {"num_kernels": cfg["num_kernels"], "truncate": True, "qkv_bias": False}
    mixer = GaussianMixtureMixer(cfg["dim"], cfg["heads"], **options)
    mixer.load_state_dict(
        {
            "qkv.weight": weights["to_qkv.weight"][..., None, None],
            "proj.weight": weights["to_out.0.weight"][..., None, None],
            "proj.bias": weights["to_out.0.bias"],
            "tables.sigma": weights["mask.sigma"].flatten(1),
            "tables.alpha": weights["mask.alpha"].flatten(1),
        }
    )
    return mixer.eval()


def _network(cfg: dict[str, Any], weights: dict[str, Tensor], image: Tensor) -> dict[str, Tensor]:
    """The authors' ViT: patches, blocks of the mixer and an MLP, the mean of all tokens."""

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    patch = cfg["patch_size"]
    side = cfg["img_size"] // patch
    patches = image.unflatten(3, (side, patch)).unflatten(2, (side, patch))
    # (B, C, rows, py, columns, px) to pixels of a patch with their channels last
    tokens = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    tokens = linear(tokens, "to_patch_embedding.1") + weights["pos_embedding"]
    results = {}
    for index in range(cfg["depth"]):
        block = f"transformer.layers.{index}"
        mixer = _mixer(cfg, named(weights, f"{block}.0.fn."))
        x = _to_map(norm(tokens, f"{block}.0.norm"), side)
        tokens = tokens + _to_tokens(mixer(x, MapContext.of(x)))
        hidden = F.gelu(linear(norm(tokens, f"{block}.1.norm"), f"{block}.1.fn.net.0"))
        tokens = tokens + linear(hidden, f"{block}.1.fn.net.3")
        results[f"out/block{index}_tokens"] = tokens
    results["out/stage0"] = _to_map(tokens, side)
    results["out/logits"] = linear(norm(tokens.mean(1), "mlp_head.0"), "mlp_head.1")
    return results
