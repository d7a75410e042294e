"""Golden files of FlatFormer: its orders, groups and layers alone, and the whole detector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeffvit.checkpoint import convert_official, load_weights
from mmeffvit.models.points import (
    SECOND,
    SECONDFPN,
    CenterHead,
    DynamicVFE,
    FlatFormer,
    PointDetector,
)
from mmeffvit.models.points.backbones.flatformer import ORDERS
from mmeffvit.ops.points import (
    EqualGroups,
    batch_to_offset,
    dynamic_voxelize,
    equal_groups,
    window_snake_order,
)
from mmeffvit.testing.families.base import GoldenFamily, named

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
    official = named(tensors, "state/")
    load_weights(network, convert_official(official, "flatformer").state_dict, prefix)


def check(meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """All outputs of the file by name."""
    if "head_config" in meta:
        return _detector(meta, tensors)
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
            groups = EqualGroups(slots, slots, None, network.group_size)
            outputs[f"{prefix}/out"] = module(x, pos, groups)
    return outputs


def build_detector(meta: dict) -> PointDetector:
    """The detector of the file, without its weights."""
    config, head = meta["config"], meta["head_config"]
    vfe, backbone, neck, coder = config["vfe"], config["bb"], config["nk"], head["bbox_coder"]
    test_cfg, train_cfg = head["test_cfg"], head["train_cfg"]
    return PointDetector(
        DynamicVFE(**{key: value for key, value in vfe.items() if key != "norm_cfg"}),
        middle_encoder(config["mid"]),
        SECOND(**{key: value for key, value in backbone.items() if key != "norm_cfg"}),
        SECONDFPN(neck["in_channels"], neck["out_channels"], neck["upsample_strides"]),
        CenterHead(
            head["in_channels"],
            head["tasks"][0]["num_class"],
            head["share_conv_channel"],
            head["separate_head"]["head_conv"],
            {name: channels for name, (channels, _) in head["common_heads"].items()},
            coder["voxel_size"],
            coder["pc_range"],
            coder["out_size_factor"],
            train_cfg={
                "min_overlap": train_cfg["gaussian_overlap"],
                "min_radius": train_cfg["min_radius"],
                "max_objs": train_cfg["max_objs"] * train_cfg["dense_reg"],
                "code_weights": train_cfg["code_weights"],
                "bbox_weight": head["loss_bbox"]["loss_weight"],
                "iou_weight": train_cfg["iou_weight"],
            },
            test_cfg={
                "max_num": coder["max_num"],
                "score_thr": coder["score_threshold"],
                "post_center_range": coder["post_center_range"],
                "iou_pow": test_cfg["iou_pow"],
                "nms_thr": test_cfg["nms_thr"],
                "nms_pre": test_cfg["pre_max_size"],
                "nms_post": test_cfg["post_max_size"],
            },
            init_bias=head["separate_head"]["init_bias"],
        ),
    )


def _detector(meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    network = build_detector(meta)
    load_state(network, tensors)
    network.eval()
    vfe, head = network.voxel_encoder, network.bbox_head
    points, counts = tensors["in/points"], tensors["in/points_per_sample"].long()
    voxels = dynamic_voxelize(points, vfe.voxel_size, vfe.point_cloud_range, "clamp")
    batch = torch.repeat_interleave(torch.arange(len(counts)), counts)
    coors = torch.cat((batch[:, None], voxels), dim=1)
    feats, pillars = vfe(points, coors)
    bev = network.middle_encoder(feats, pillars, len(counts))
    stages = network.backbone(bev)
    (joined,) = network.neck(stages)
    maps = head((joined,))
    gt = [[tensors[f"in/gt_{kind}{i}"] for i in range(len(counts))] for kind in ("boxes", "labels")]
    height, width = joined.shape[2:]
    targets, losses = head.targets(*gt, (width, height)), head.loss(maps, *gt)
    outputs = {
        "mid/point_coords": coors,
        "out/vfe_feats": feats,
        "out/vfe_coords": pillars,
        "out/bev": bev,
        "out/neck": joined,
        **{f"out/second{i}": stage for i, stage in enumerate(stages)},
        **{f"out/head/{name}": value for name, value in maps.items()},
        **{f"out/targets/{k}": getattr(targets, k) for k in ("heatmap", "anno_box", "ind", "mask")},
        **{f"out/losses/task0.{k}": losses[k] for k in ("loss_heatmap", "loss_bbox")},
    }
    for i, (boxes, scores, labels) in enumerate(head.decode(maps)):
        outputs |= {
            f"out/decoded{i}/boxes": boxes,
            f"out/decoded{i}/scores": scores,
            f"out/decoded{i}/labels": labels,
        }
    return outputs


class FlatFormerGolden(GoldenFamily):
    family = "flatformer"
    system = "FlatFormer"
    tolerance = 2e-5

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return check(meta, tensors)
