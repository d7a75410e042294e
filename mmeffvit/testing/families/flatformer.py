"""Golden files of FlatFormer: orders of the pillars, groups, blocks, and a layer alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeffvit.checkpoint import convert_official, load_weights
from mmeffvit.models.points import FlatFormer
from mmeffvit.models.points.flatformer import ORDERS, TokenGroups
from mmeffvit.ops.points import batch_to_offset, equal_groups, window_snake_order

SYSTEM = "FlatFormer"
TOLERANCE = 2e-5

#: block and layer of the operators alone
_ALONE = (0, 1)


def middle_encoder(config: dict) -> FlatFormer:
    """The middle encoder of the authors' config."""
    return FlatFormer(
        FlatFormer.arch_from_official(config),
        activation=config["activation"],
        pos_temperature=config.get("pos_temperature", 10000),
        normalize_pos=config.get("normalize_pos", False),
    )


def load_state(network: nn.Module, tensors: dict[str, Tensor], prefix: str = "") -> None:
    """Give a network the weights of the file, through the converter."""
    official = {
        key.removeprefix("state/"): value
        for key, value in tensors.items()
        if key.startswith("state/")
    }
    load_weights(network, convert_official(official, "flatformer").state_dict, prefix)


def check(meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """All outputs of the file by name."""
    network = middle_encoder(meta["config"])
    load_state(network, tensors, FlatFormer.prefix)
    network.eval()
    feats, coors = tensors["in/voxel_feats"], tensors["in/coords"].long()
    return _orders(network, coors) | _network(network, feats, coors) | _alone(network, tensors)


def _orders(network: FlatFormer, coors: Tensor) -> dict[str, Tensor]:
    groups = equal_groups(batch_to_offset(coors[:, 0]), network.group_size)
    outputs = {
        "mid/flat2win": groups.slots,
        "mid/win2flat": groups.slot_of_token,
        "mid/pos_embed": network.position_embedding(coors),
    }
    for axis, shifted in ORDERS:
        order = window_snake_order(coors, network.window_size, network.grid_size, axis, shifted)
        outputs[f"mid/{axis}_shift" if shifted else f"mid/{axis}"] = order
    return outputs


def _network(network: FlatFormer, feats: Tensor, coors: Tensor) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = {}
    handles = [
        block[-1].register_forward_hook(
            lambda module, args, out, name=f"out/block{i}": outputs.update({name: out})
        )
        for i, block in enumerate(network.blocks)
    ]
    outputs["out/bev"] = network(feats, coors, int(coors[-1, 0]) + 1)
    for handle in handles:
        handle.remove()
    return outputs


def _alone(network: FlatFormer, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The layer on tokens that lie in their groups already, duplicates among them."""
    layer = network.blocks[_ALONE[0]][_ALONE[1]]
    outputs = {}
    for name, module in (("group_attention", layer.attn), ("layer", layer)):
        prefix = f"op/{name}"
        if f"{prefix}/out" in tensors:
            x, pos = tensors[f"{prefix}/in/src_grouped"], tensors[f"{prefix}/in/pe_grouped"]
            slots = torch.arange(len(x))
            groups = TokenGroups(slots, slots, None, network.group_size)
            outputs[f"{prefix}/out"] = module(x, pos, groups)
    return outputs
