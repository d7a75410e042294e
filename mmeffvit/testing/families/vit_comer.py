"""Golden files of ViT-CoMer: two networks, and two of their modules alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmeffvit.checkpoint import convert_official, load_weights
from mmeffvit.layers import Context, DeformableAttention
from mmeffvit.layers.levels import MRFP
from mmeffvit.models import ViTCoMer
from mmeffvit.models.network import Network
from mmeffvit.testing.families.base import GoldenFamily, named


class ViTCoMerGolden(GoldenFamily):
    family = "vit-comer"
    system = "ViT-CoMer"
    tolerance = 2e-5
    # batch norms of the coarsest map see four pixels there, and MRFP has no residual
    autocast_tolerance = 0.2

    def small_arch(self, cls: type[Network], variant: str) -> dict[str, Any]:
        arch = cls.arch_zoo[variant]
        detects = arch["vit_feature"] == "last"
        count = 2 if detects else 4
        per_interaction = ("to_vit", "to_cnn", "cnn_attention")
        return {
            **arch,
            **{key: arch[key][:count] for key in per_interaction},
            "embed_dims": 32,
            "depth": 4,
            "num_heads": 2,
            "image_size": 64,
            "window_sizes": (3, None, 3, None) if detects else None,
            "conv_channels": 8,
            "interactions": ((0, 1), (2, 3)) if detects else tuple((i, i) for i in range(4)),
            "num_extra": 1,
            "deform_heads": 2,
            "deform_ratio": 0.5 if detects else 1.0,
            "deform_points": 2,
            "mrfp_ratio": 0.5 if detects else 1.5,
        }

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        results = {}
        for kind, prefix in (("det", ""), ("seg", "seg_")):
            state = named(tensors, f"{prefix}state/")
            if state:
                arch = self.arch({**meta[f"{kind}_params"], "kind": kind, "state": state})
                network = ViTCoMer(arch)
                load_weights(network, convert_official(state, self.family).state_dict)
                maps = network.eval()(tensors[f"{prefix}input"])
                results |= {f"{prefix}out/stage{i}": m for i, m in enumerate(maps, 1)}
        if "op/msda/out" in tensors:
            results["op/msda/out"] = self._attention(meta, tensors)
        if "op/mrfp/out" in tensors:
            results["op/mrfp/out"] = self._mrfp(tensors)
        return results

    def arch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """`params` has also ``kind``, 'det' or 'seg', and ``state``, the authors' weights."""
        detects, dim = params["kind"] == "det", params["embed_dim"]
        count = len(params["interaction_indexes"])

        def each(key: str, default: bool) -> list[bool]:
            value = params.get(key, default)
            return [value] * count if isinstance(value, bool) else list(value)

        depth = params["depth"]
        window_attn, window_size = (params.get(k) for k in ("window_attn", "window_size"))
        window_attn = window_attn if isinstance(window_attn, list) else [window_attn] * depth
        window_size = window_size if isinstance(window_size, list) else [window_size] * depth
        # the width of the convolutions has another argument in each class
        hidden = [len(v) for k, v in params["state"].items() if k.endswith("mrfp.fc1.weight")]
        feature = "last" if detects else "each"
        return {
            "embed_dims": dim,
            "depth": depth,
            "num_heads": params["num_heads"],
            "mlp_ratio": params.get("mlp_ratio", 4),
            "layer_scale": 1.0 if params.get("layer_scale", True) else None,
            "image_size": params["pretrain_size"],
            "window_sizes": [size if on else None for on, size in zip(window_attn, window_size)],
            "conv_channels": params["conv_inplane"],
            "interactions": params["interaction_indexes"],
            "to_vit": each("use_CTI_toV", True),
            "to_cnn": each("use_CTI_toC", True),
            "cnn_attention": each("cnn_feature_interaction", not detects),
            "num_extra": params.get("extra_num", 4) if params.get("use_extra_CTI", True) else 0,
            "vit_feature": feature if params.get("add_vit_feature", True) else None,
            "deform_heads": params["deform_num_heads"],
            "deform_ratio": params["deform_ratio"],
            "deform_points": params.get("n_points", 4),
            "mrfp_ratio": hidden[0] / dim if hidden else 0.5,
            "ffn_ratio": params.get("cffn_ratio", 0.25),
        }

    def _attention(self, meta: dict, tensors: dict[str, Tensor]) -> Tensor:
        """Deformable attention of tokens with their own reference points."""
        query, value = tensors["op/msda/in/query"], tensors["op/msda/in/value"]
        shapes = tensors["op/msda/in/spatial_shapes"].tolist()
        # heads and points are in the prose alone
        said = re.search(r"(\d+) heads, (\d+) points", meta.get("notes", ""))
        params = meta["det_params"]
        heads, points = (
            map(int, said.groups()) if said else (params["deform_num_heads"], params["n_points"])
        )
        state = _converted(tensors, "op/msda/state/", "interactions.0.cti_tov.attn.")
        ratio = len(state["value_proj.weight"]) / query.shape[-1]
        module = DeformableAttention(query.shape[-1], heads, len(shapes), points, ratio)
        module.load_state_dict(state)
        sources = value.transpose(1, 2).split([h * w for h, w in shapes], 2)
        sources = [x.unflatten(2, shape) for x, shape in zip(sources, shapes)]
        centres = tensors["op/msda/in/reference_points"][0, :, 0]
        row = query.transpose(1, 2).unsqueeze(2)
        out = module.attend(row, centres, module.levels(sources, Context()))
        return out.flatten(2).transpose(1, 2)

    def _mrfp(self, tensors: dict[str, Tensor]) -> Tensor:
        height, width = tensors["op/mrfp/in/HW"].tolist()
        shapes = [(2 * height, 2 * width), (height, width), (height // 2, width // 2)]
        tokens = tensors["op/mrfp/in/c"].transpose(1, 2)
        state = _converted(tensors, "op/mrfp/state/", "interactions.0.mrfp.")
        module = MRFP(tokens.shape[1], len(state["fc1.weight"]))
        module.load_state_dict(state)
        maps = tokens.split([h * w for h, w in shapes], 2)
        maps = module.eval()([x.unflatten(2, shape) for x, shape in zip(maps, shapes)])
        return torch.cat([x.flatten(2) for x in maps], 2).transpose(1, 2)


def _converted(tensors: dict[str, Tensor], theirs: str, place: str) -> dict[str, Tensor]:
    """Weights of a module alone, under our keys: those that it has at a place of the network."""
    official = {place + key: value for key, value in named(tensors, theirs).items()}
    return named(convert_official(official, "vit-comer").state_dict, f"backbone.{place}")
