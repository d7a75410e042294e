"""Boxes as the centres of objects on a bird's-eye-view map (CenterPoint, arXiv 2006.11275)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.models.points.heads.center_losses import center_losses, gather_cells
from mmeffvit.models.points.heads.center_targets import CenterTargets, center_targets
from mmeffvit.models.points.model import with_defaults
from mmeffvit.ops.points import bev_boxes, rotated_nms
from mmeffvit.registry import MODELS

#: branch -> channels
BRANCHES = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2, "iou": 1}


class ConvBN(nn.Module):
    """3x3 convolution, batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, **norm):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, **norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()


@MODELS.register_module()
class CenterHead(BaseModule):
    """Heat maps of the centres of objects, and what their boxes are there, with an IoU branch.

    Boxes are those of mmdet3d from 1.0 on: (x, y, z, dx, dy, dz, yaw), yaw 0 along +x and growing
    towards +y. Those of weights of older versions go through `boxes_from_mmdet3d_v0`.

    Args:
        in_channels: Channels of the map.
        num_classes: Classes, all in one heat map.
        share_channels: Channels after the convolution that all branches share.
        head_channels: Channels inside of the branches.
        branches: Name of each branch but the heat map's, and its channels; ``iou`` and ``vel`` may
            be left out.
        voxel_size: Sides of a pillar along x and y, in metres.
        point_cloud_range: Lowest x and y first, in metres.
        out_size_factor: Pillars along a cell of the map.
        train_cfg: Settings of `loss`, where not the published ones: ``min_overlap``, ``min_radius``
            and ``max_objs`` of :func:`center_targets`, ``code_weights`` of the ten numbers of a
            box, ``bbox_weight`` and ``iou_weight``.
        test_cfg: Settings of `predict`, where not the published ones: ``max_num``,
            ``score_thr``, ``post_center_range``, ``iou_pow``, and per class ``nms_thr``,
            ``nms_pre`` and ``nms_post``.
        init_bias: Of the heat map.
        init_cfg: Of mmengine.

    Raises:
        ValueError: A branch is missing, or a setting is not known or not one per class.
    """

    #: published settings; velocities of Waymo's boxes are not known
    default_train_cfg: ClassVar[dict[str, Any]] = {
        "min_overlap": 0.1,
        "min_radius": 1,
        "max_objs": 500,
        "code_weights": (1.0,) * 8 + (0.0,) * 2,
        "bbox_weight": 2.0,
        "iou_weight": 1.0,
    }
    #: published settings, for cars, pedestrians and cyclists on Waymo
    default_test_cfg: ClassVar[dict[str, Any]] = {
        "max_num": 4096,
        "score_thr": 0.1,
        "post_center_range": (-74.88, -74.88, -10.0, 74.88, 74.88, 10.0),
        "iou_pow": 2.0,
        "nms_thr": (0.8, 0.55, 0.55),
        "nms_pre": (2048, 1024, 1024),
        "nms_post": (300, 100, 100),
    }

    def __init__(
        self,
        in_channels: int = 256,
        num_classes: int = 3,
        share_channels: int = 64,
        head_channels: int = 64,
        branches: Mapping[str, int] | None = None,
        voxel_size: Sequence[float] = (0.32, 0.32),
        point_cloud_range: Sequence[float] = (-74.88, -74.88),
        out_size_factor: int = 1,
        train_cfg: Mapping | None = None,
        test_cfg: Mapping | None = None,
        init_bias: float = -2.19,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        branches = dict(BRANCHES if branches is None else branches)
        if missing := {"reg", "height", "dim", "rot"} - branches.keys():
            raise ValueError(f"CenterHead cannot do without the branches {sorted(missing)}")
        self.num_classes = num_classes
        self.cell_size = tuple(side * out_size_factor for side in tuple(voxel_size)[:2])
        self.origin = tuple(point_cloud_range)[:2]
        self.init_bias = init_bias
        self.train_cfg = with_defaults("train_cfg", self.default_train_cfg, train_cfg)
        self.test_cfg = with_defaults("test_cfg", self.default_test_cfg, test_cfg)
        for key in ("nms_thr", "nms_pre", "nms_post"):
            if len(self.test_cfg[key]) != num_classes:
                raise ValueError(
                    f"test_cfg['{key}'] needs one entry for each of {num_classes} classes, got "
                    f"{self.test_cfg[key]}"
                )
        self.shared_conv = ConvBN(in_channels, share_channels, eps=1e-3, momentum=0.01)
        self.branches = nn.ModuleDict()
        for name, channels in (*branches.items(), ("heatmap", num_classes)):
            last = nn.Conv2d(head_channels, channels, 3, padding=1)
            self.branches[name] = nn.Sequential(ConvBN(share_channels, head_channels), last)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming-normal; the heat map starts low."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        last = self.branches["heatmap"][1]
        last.reset_parameters()
        nn.init.constant_(last.bias, self.init_bias)

    def forward(self, feats: Sequence[Tensor]) -> dict[str, Tensor]:
        """The only map (B, C, H, W) of a neck, to the map of every branch by name.

        Raises:
            ValueError: There are several maps.
        """
        if len(feats) != 1:
            raise ValueError(f"CenterHead takes the one map of a neck, got {len(feats)} maps")
        x = self.shared_conv(feats[0])
        return {name: branch(x) for name, branch in self.branches.items()}

    def boxes_at(self, outs: Mapping[str, Tensor], index: Tensor) -> Tensor:
        """Boxes that the maps predict at some cells.

        Args:
            outs: Of `forward`.
            index: (B, K) int64 cells, y * W + x.

        Returns:
            (B, K, 7), or 9 with velocities, in float32; z in the middle of the box.
        """
        width = outs["reg"].shape[3]
        values = {k: gather_cells(v, index) for k, v in outs.items() if k not in ("heatmap", "iou")}
        cells = torch.stack((index % width, index // width), dim=-1) + values["reg"]
        centres = cells * cells.new_tensor(self.cell_size) + cells.new_tensor(self.origin)
        sin, cos = values["rot"].unbind(-1)
        parts = [centres, values["height"], values["dim"].exp(), torch.atan2(sin, cos)[..., None]]
        if "vel" in values:
            parts.append(values["vel"])
        return torch.cat(parts, dim=-1)

    def targets(
        self, gt_boxes: Sequence[Tensor], gt_labels: Sequence[Tensor], map_size: tuple[int, int]
    ) -> CenterTargets:
        """Targets of a batch on a map of (W, H) cells; see :func:`center_targets`."""
        limits = (self.train_cfg[key] for key in ("min_overlap", "min_radius", "max_objs"))
        return center_targets(
            gt_boxes,
            gt_labels,
            self.num_classes,
            map_size,
            self.cell_size,
            self.origin,
            *limits,
        )

    def loss(
        self,
        outs: Mapping[str, Tensor],
        gt_boxes: Sequence[Tensor],
        gt_labels: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            outs: Of `forward`.
            gt_boxes: Per sample (n, 7 or 9), z at the bottom.
            gt_labels: Per sample (n) classes.

        Returns:
            ``loss_heatmap``, ``loss_bbox`` and, with the branch, ``loss_iou``.

        Raises:
            ValueError: See :func:`center_targets`.
        """
        height, width = outs["heatmap"].shape[2:]
        targets = self.targets(gt_boxes, gt_labels, (width, height))
        return center_losses(outs, targets, self.train_cfg, self.boxes_at)

    def decode(self, outs: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The best boxes of every sample, before suppression.

        Scores are those of the heat map times the predicted IoU, in [0, 1], to a power.

        Args:
            outs: Of `forward`.

        Returns:
            Boxes (K, 7 or 9) with z in their middle, scores (K) by falling score, labels (K).
        """
        cfg = self.test_cfg
        scores = outs["heatmap"].float().sigmoid()
        if "iou" in outs:
            scores = scores * outs["iou"].float().clamp(0, 1) ** cfg["iou_pow"]
        cells = scores.shape[2] * scores.shape[3]
        # the best of every class, then of all
        scores, index = scores.flatten(2).topk(min(cfg["max_num"], cells))
        kept = scores.shape[2]
        scores, place = scores.flatten(1).topk(min(cfg["max_num"], scores[0].numel()))
        labels = place // kept
        boxes = self.boxes_at(outs, index.flatten(1).gather(1, place))
        limits = boxes.new_tensor(cfg["post_center_range"])
        inside = ((boxes[..., :3] >= limits[:3]) & (boxes[..., :3] <= limits[3:])).all(-1)
        keep = inside & (scores > cfg["score_thr"])
        return [(b[k], s[k], n[k]) for b, s, n, k in zip(boxes, scores, labels, keep)]

    def predict(self, outs: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes of every sample after rotated suppression, class by class.

        Args:
            outs: Of `forward`.

        Returns:
            Boxes (K, 7 or 9) with z at their bottom, scores (K), labels (K), class after class.
        """
        cfg, results = self.test_cfg, []
        for boxes, scores, labels in self.decode(outs):
            kept = []
            limits = zip(cfg["nms_thr"], cfg["nms_pre"], cfg["nms_post"])
            for label, (threshold, before, after) in enumerate(limits):
                rows = (labels == label).nonzero().flatten()[:before]
                stays = rotated_nms(bev_boxes(boxes[rows]), scores[rows], threshold)
                kept.append(rows[stays[:after]])
            rows = torch.cat(kept)
            boxes = boxes[rows]
            boxes[:, 2] -= boxes[:, 5] / 2
            results.append((boxes, scores[rows], labels[rows]))
        return results
