"""Losses of `CenterHead`, from its maps and its targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmeffvit.models.points.heads.center_targets import CenterTargets
from mmeffvit.ops.points import rotated_iou_3d


def gather_cells(maps: Tensor, index: Tensor) -> Tensor:
    """(B, C, H, W) at cells (B, K): (B, K, C) in float32."""
    index = index[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, index).transpose(1, 2).float()


def gaussian_focal_loss(heatmap: Tensor, target: Tensor) -> Tensor:
    """Focal loss that forgives near the centres, over the number of centres (1808.01244, eq. 1).

    Args:
        heatmap: Logits of any shape.
        target: The same shape, 1 at centres.
    """
    prob = heatmap.float().sigmoid().clamp(1e-4, 1 - 1e-4)
    centre = target == 1
    positive = -prob.log() * (1 - prob).square()
    negative = -(1 - prob).log() * prob.square() * (1 - target) ** 4
    return torch.where(centre, positive, negative).sum() / centre.sum().clamp_min(1)


def center_losses(
    outs: Mapping[str, Tensor],
    targets: CenterTargets,
    cfg: Mapping[str, Any],
    boxes_at: Callable[[Mapping[str, Tensor], Tensor], Tensor],
) -> dict[str, Tensor]:
    """Losses of a batch: see `CenterHead.loss`.

    Args:
        outs: Map of each branch (B, C, H, W).
        targets: Of the batch.
        cfg: ``train_cfg`` of the head.
        boxes_at: Boxes that maps predict at cells (B, K): (B, K, 7+).
    """
    count = targets.mask.sum() + 1e-4
    names = [name for name in ("reg", "height", "dim", "rot", "vel") if name in outs]
    values = torch.cat([gather_cells(outs[name], targets.ind) for name in names], dim=-1)
    wanted = targets.anno_box[..., : values.shape[-1]]
    weights = values.new_tensor(cfg["code_weights"][: values.shape[-1]])
    apart = (values - wanted).abs() * weights * targets.mask[..., None]
    losses = {
        "loss_heatmap": gaussian_focal_loss(outs["heatmap"], targets.heatmap),
        "loss_bbox": cfg["bbox_weight"] * apart.sum() / count,
    }
    if "iou" in outs:
        mask = targets.mask
        with torch.no_grad():
            boxes = boxes_at(outs, targets.ind)[..., :7][mask]
            overlap = rotated_iou_3d(boxes, targets.boxes[mask])
        predicted = gather_cells(outs["iou"], targets.ind)[..., 0][mask]
        apart = (predicted - overlap.to(predicted.dtype)).abs().sum()
        losses["loss_iou"] = cfg["iou_weight"] * apart / count
    return losses
