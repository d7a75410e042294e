"""Golden files of SReT: one network, sliced with given permutations, and un-sliced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mmeffvit.checkpoint import load_weights
from mmeffvit.layers import GroupMixer, MapContext
from mmeffvit.models import SReT
from mmeffvit.models.classifier import Classifier
from mmeffvit.models.network import Network
from mmeffvit.ops import grouped_attention
from mmeffvit.testing.families.base import GoldenFamily, named


class SReTGolden(GoldenFamily):
    family = "sret"
    system = "SReT"

    def arch(self, params: dict[str, Any]) -> dict[str, Any]:
        dims = [base * heads for base, heads in zip(params["base_dims"], params["heads"])]
        loops = params["depth"][0] // params["recursive_num"][0]
        return {
            "embed_dims": (dims[0], *dims),
            "depths": (0, *params["recursive_num"]),
            "num_heads": (1, *params["heads"]),
            "groups": ((1, 1), *zip(params["groups1"], params["groups2"])),
            "mlp_ratio": params["mlp_ratio"],
            "nll_ratio": params.get("np_mlp_ratio", 1),
            "loops": loops,
            "image_size": params["image_size"],
        }

    def small_arch(self, cls: type[Network], variant: str) -> dict[str, Any]:
        sizes = {"embed_dims": (16, 16, 32, 64), "depths": (0, 1, 2, 1), "image_size": 64}
        arch = {**cls.arch_zoo[variant], **sizes, "num_heads": (1, 2, 4, 4), "nll_ratio": 1}
        # no pass is shuffled: what training draws anew cannot be compared between two runs
        arch["groups"] = ((1, 1), (8, 1), (4, 1), (1, 1))
        return arch

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        orders = iter([tensors[f"perm/{i}"] for i in range(len(named(tensors, "perm/")))])
        results = self._network(meta, tensors, orders=orders)
        if any(name.startswith("wo_slice/") for name in tensors):
            others = self._network(meta, tensors, sliced=False)
            results |= {f"wo_slice/{key}": value for key, value in others.items()}
        op = named(tensors, "op/group_attn/")
        if op:
            results |= _attention(op, meta["cfg"])
        return results

    def _network(
        self, meta: dict, tensors: dict[str, Tensor], orders: Iterator | None = None, **options: Any
    ) -> dict[str, Tensor]:
        arch = self.arch(meta["cfg"])
        backbone = SReT(arch, out_indices=(1, 2, 3), out_norm=False, **options)
        head = backbone.make_head(len(tensors["state/head.bias"]))
        network = Classifier(backbone, head).eval()
        load_weights(network, self.converted(tensors))
        for module in backbone.modules():
            if isinstance(module, GroupMixer) and orders is not None:
                module.make_order = lambda context: next(orders)
        maps = backbone(tensors["input"])
        results = {f"out/stage{i}": x for i, x in enumerate(maps)}
        return {**results, "out/logits": head(maps)}


def _attention(tensors: dict[str, Tensor], cfg: dict[str, Any]) -> dict[str, Tensor]:
    """The attention of stage 1 alone, in bands and in shuffled groups."""
    x, state = tensors["in/x"], named(tensors, "state/")
    heads, results = cfg["heads"][0], {}
    mixer = GroupMixer(x.shape[2], heads)
    mixer.load_state_dict({k: v[..., None, None] if v.dim() == 2 else v for k, v in state.items()})
    row = x.transpose(1, 2).unsqueeze(2)
    context = MapContext(1, x.shape[1], torch.device("cpu"))
    for name, key, order in (
        ("out_groups1", "groups1", None),
        ("out_groups2_permuted", "groups2", tensors.get("perm")),
    ):
        out = grouped_attention(*mixer.qkv(row), cfg[key][0], order).flatten(2)
        map_ = out.transpose(1, 2).unflatten(2, context.size)
        results[f"op/group_attn/{name}"] = mixer.proj(map_)[:, :, 0].transpose(1, 2)
    return results
