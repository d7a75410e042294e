"""A point backbone with the linear classifier of its published weights, without any toolbox."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.ops.points import check_offset, offset_to_batch


class PointSegmentationNet(BaseModule):
    """Backbone and a linear layer; keys start with ``backbone.`` and ``decode_head.conv_seg.``.

    The keys are those of mmdet3d's MinkUNet with its MinkUNetHead.

    Args:
        backbone: A point backbone.
        num_classes: Number of classes.
    """

    def __init__(self, backbone: BaseModule, num_classes: int):
        super().__init__()
        self.backbone = backbone
        conv_seg = nn.Linear(backbone.out_channels, num_classes)
        self.decode_head = nn.ModuleDict({"conv_seg": conv_seg})

    def forward(self, voxels: Tensor, coors: Tensor) -> Tensor:
        """Voxels (N, C_in) at coors (N, 4) to logits (N, num_classes)."""
        return self.decode_head["conv_seg"](self.backbone(voxels, coors))


def raw_point_rows(inverse: Tensor, length: Tensor, offset: Tensor) -> Tensor:
    """Row of the voxel of every raw point, among the voxels of all samples.

    Args:
        inverse: (R) voxel of every raw point, counted from 0 in its sample.
        length: (B) raw points of every sample.
        offset: (B) ends of the samples among the voxels.

    Returns:
        (R) int64: ``logits[rows]`` are the logits of the raw points.

    Raises:
        ValueError: The lengths do not fit.
    """
    ends = length.long().cumsum(0)
    check_offset(ends, len(inverse), "length", allow_empty=True)
    if len(length) != len(offset):
        raise ValueError(f"length has {len(length)} samples and offset {len(offset)}")
    starts = torch.cat((offset.new_zeros(1), offset[:-1])).long()
    sample = offset_to_batch(ends)
    rows = inverse.long() + starts[sample]
    if len(rows) and bool(((inverse < 0) | (rows >= offset[sample])).any()):
        raise ValueError("inverse has voxels that its sample does not have")
    return rows
