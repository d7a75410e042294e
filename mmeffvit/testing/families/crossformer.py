"""Golden files of CrossFormer: fixed and adaptive intervals, a block, the position bias."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmeffvit.checkpoint import load_weights
from mmeffvit.layers import MapContext
from mmeffvit.layers.mixers import PositionBias
from mmeffvit.models.backbones import CrossFormer
from mmeffvit.models.network import Network
from mmeffvit.testing.families.base import PyramidGolden, named


class CrossFormerGolden(PyramidGolden):
    family = "crossformer"
    system = "CrossFormer"

    def params(self, meta: dict) -> dict[str, Any]:
        params = super().params(meta)
        # of cooling layers, old files speak in the name of the model alone
        on = re.search(r"use_acl\s*=\s*(\w+)", meta.get("model", ""))
        return {"use_acl": bool(on and on[1] == "True"), **params}

    def is_normed(self, meta: dict, tensors: dict[str, Tensor]) -> bool:
        return False

    def arch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        depths = tuple(params["depths"])

        def per_stage(key: str, default: Any) -> tuple:
            value = params.get(key, default)
            return tuple(value) if isinstance(value, list | tuple) else (value,) * len(depths)

        return {
            "embed_dims": tuple(params["embed_dim"] * 2**i for i in range(len(depths))),
            "depths": depths,
            "num_heads": tuple(params["num_heads"]),
            "mlp_ratios": per_stage("mlp_ratio", 4),
            "group_sizes": per_stage("group_size", 7),
            "intervals": per_stage("crs_interval", (8, 4, 2, 1)),
            "cooling": params["use_acl"],
        }

    def small_arch(self, cls: type[Network], variant: str) -> dict[str, Any]:
        # small enough for more than one group on the maps of small images
        sizes = {"group_sizes": (3, 3, 2, 2), "intervals": (2, 2, 1, 1)}
        return {**super().small_arch(cls, variant), **sizes}

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        # the classifier has an input of its own
        files = {k: v for k, v in tensors.items() if not k.endswith("logits")}
        results = super().outputs(meta, files)
        for name in [key for key in tensors if re.fullmatch(r"input\d*", key)]:
            prefix = f"{name.replace('input', 'out')}_adaptive/"
            if any(key.startswith(prefix) for key in tensors):
                network = self.build(meta, tensors, out_norm=False, adaptive_interval=True)
                results |= {f"{prefix}stage{i}": m for i, m in enumerate(network(tensors[name]), 1)}
        for name in [key for key in tensors if re.fullmatch(r"out\d*/logits", key)]:
            own = name.removesuffix("/logits").replace("out", "cls_input")
            x = tensors[own if own in tensors else own.removeprefix("cls_")]
            results[name] = self.build_classifier(self.with_classes(meta, tensors), tensors)(x)
        return {name: value for name, value in results.items() if name in tensors}

    def with_classes(self, meta: dict, tensors: dict[str, Tensor]) -> dict:
        """The number of classes stands in the shape of the head alone."""
        return {"num_classes": len(tensors["state/head.bias"]), **meta}

    def operator_outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        results = {}
        if "op/dpb/in/offsets" in tensors:
            heads, hidden = tensors["op/dpb/state/pos3.2.weight"].shape
            bias = PositionBias(heads, hidden)
            state = {f"layers.0.blocks.0.attn.pos.{k}": v for k, v in _state(tensors, "dpb")}
            weights = self.converted(state, "")
            bias.load_state_dict(named(weights, "backbone.stages.0.blocks.0.block.mixer.bias."))
            results["op/dpb/out"] = bias.of_offsets(tensors["op/dpb/in/offsets"])
        if "op/lda_block/in/x" in tensors:
            results["op/lda_block/out"] = self.block_output(meta, tensors)
        return results

    def block_output(self, meta: dict, tensors: dict[str, Tensor]) -> Tensor:
        """A long-distance block with a cooling layer; its sizes stand in the notes."""
        x, notes = tensors["op/lda_block/in/x"], meta.get("notes", "")
        notes = notes[notes.find("op/lda_block") :]
        heads, group, interval, height, width = (
            int(found[1]) if (found := re.search(pattern, notes)) else default
            for pattern, default in (
                (r"(\d+) heads", 2),
                (r"group (\d+)", 3),
                (r"interval (\d+)", 2),
                (r"H=(\d+)", 7),
                (r"W=(\d+)", 5),
            )
        )
        # in a network whose first stage has it as its second of two blocks, with a third one after
        cooled = "op/lda_block/state/ex_conv.weight" in tensors
        network = CrossFormer(
            {
                "embed_dims": (x.shape[-1],) * 4,
                "depths": (7, 1, 1, 1),
                "num_heads": (heads,) * 4,
                "mlp_ratios": (len(tensors["op/lda_block/state/mlp.fc1.bias"]) / x.shape[-1],) * 4,
                "group_sizes": (group,) * 4,
                "intervals": (interval,) * 4,
                "cooling": cooled,
            },
            out_indices=(0,),
        )
        # the sixth block is odd, and the third of three
        block = network.stages[0].blocks[5].eval()
        official = {f"layers.0.blocks.5.{k}": v for k, v in _state(tensors, "lda_block")}
        prefix = "backbone.stages.0.blocks.5."
        load_weights(block, named(self.converted(official, ""), prefix))
        image = x.transpose(1, 2).unflatten(2, (height, width))
        return block(image, MapContext.of(image)).flatten(2).transpose(1, 2)


def _state(tensors: dict[str, Tensor], name: str):
    return named(tensors, f"op/{name}/state/").items()
