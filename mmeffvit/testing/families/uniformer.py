"""Golden files of UniFormer: one network with three kinds of attention, and another stem."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmeffvit.layers import MLP, Block, DepthwiseConv2d, MapContext, SoftmaxMixer
from mmeffvit.models.network import Network
from mmeffvit.testing.families.base import PyramidGolden, named

#: how the names of outputs end, and what stage 3 attends to there
_ATTENTION = {"": "hybrid", "_windows": "windows", "_global": "global"}


class UniFormerGolden(PyramidGolden):
    family = "uniformer"
    system = "UniFormer"

    def arch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "embed_dims": tuple(params["embed_dim"]),
            "depths": tuple(params["layers"]),
            "head_dim": params["head_dim"],
            "mlp_ratio": params.get("mlp_ratio", 4),
            "conv_stem": params.get("conv_stem", False),
            "layer_scale": params.get("layer_scale"),
        }

    def small_arch(self, cls: type[Network], variant: str) -> dict[str, Any]:
        return {**super().small_arch(cls, variant), "head_dim": 16}

    def network_options(self, meta: dict) -> dict[str, Any]:
        options = {"attention": meta.get("attention", "hybrid"), "drop_rest": True}
        return {**options, "window_size": self.params(meta).get("window_size", 14)}

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        results = self.operator_outputs(meta, tensors)
        for name in tensors:
            if found := re.fullmatch(r"input(\d*)", name):
                results |= self._dense_outputs(meta, tensors, tensors[name], found[1])
            if found := re.fullmatch(r"cls_input(\d*)", name):
                results |= self._classifier_outputs(meta, tensors, tensors[name], found[1])
                # the other stem, with layer scale
                params = {**self.params(meta), "conv_stem": True, "layer_scale": 1e-6}
                others = self._classifier_outputs(
                    {**meta, "params": params},
                    named(tensors, "convstem_"),
                    tensors[name],
                    found[1],
                )
                results |= {f"convstem_{key}": value for key, value in others.items()}
        return results

    def _dense_outputs(
        self, meta: dict, tensors: dict[str, Tensor], x: Tensor, number: str
    ) -> dict[str, Tensor]:
        results = {}
        for ending, attention in _ATTENTION.items():
            out = f"out{number}{ending}"
            if f"{out}/stage1" in tensors:
                network = self.build({**meta, "attention": attention}, tensors)
                results |= {f"{out}/stage{i}": map_ for i, map_ in enumerate(network(x), 1)}
        return results

    def _classifier_outputs(
        self, meta: dict, tensors: dict[str, Tensor], x: Tensor, number: str
    ) -> dict[str, Tensor]:
        results = {}
        if f"out{number}/logits" in tensors:
            meta = {**meta, "num_classes": len(tensors["state/head.bias"])}
            results[f"out{number}/logits"] = self.build_classifier(meta, tensors)(x)
        if f"out{number}/stage1_raw" in tensors:
            first = self.build(meta, tensors, out_norm=False, out_indices=(0,))
            results[f"out{number}/stage1_raw"] = first(x)[0]
        return results

    def operator_outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        results = {}
        for out in [key for key in tensors if re.fullmatch(r"op/sablock_\w+/out", key)]:
            prefix = out.removesuffix("out")
            results[out] = _attention_block(meta, named(tensors, prefix))
        return results


def _attention_block(meta: dict, tensors: dict[str, Tensor]) -> Tensor:
    """A block of stage 3 alone, with the default norm and without a bias of q, k and v."""
    notes = meta.get("notes", "")
    window, heads = (
        int(found[1]) if (found := re.search(pattern, notes)) else default
        for pattern, default in ((r"window (\d+)", 3), (r"(\d+) heads", 2))
    )
    x = tensors["in/x"]
    dim = x.shape[1]
    block = Block(
        dim,
        SoftmaxMixer(dim, heads, window, project_edges=True),
        MLP(dim, len(tensors["state/mlp.fc1.bias"])),
        pos=DepthwiseConv2d(dim, residual=True),
    )
    names = {"pos_embed": "pos", "attn": "mixer", "mlp": "ffn"}
    state = dict(block.state_dict(), **{"mixer.qkv.bias": block.mixer.qkv.bias.new_zeros(3 * dim)})
    for key, value in named(tensors, "state/").items():
        part, _, rest = key.partition(".")
        own = f"{names.get(part, part)}.{rest}"
        state[own] = value.reshape(state[own].shape)
    block.load_state_dict(state)
    return block(x, MapContext.of(x))
