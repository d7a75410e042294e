"""The parts of a LiDAR detector in their order, without any toolbox."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor


class PointDetectionNet(BaseModule):
    """Voxel encoder, middle encoder, backbone, neck and head, under mmdet3d's names.

    Args:
        voxel_encoder: Such as `DynamicVFE`.
        middle_encoder: Such as `FlatFormer`.
        backbone: Such as `SECOND`.
        neck: Such as `SECONDFPN`.
        bbox_head: Such as `CenterHead`.
    """

    def __init__(
        self,
        voxel_encoder: BaseModule,
        middle_encoder: BaseModule,
        backbone: BaseModule,
        neck: BaseModule,
        bbox_head: BaseModule,
    ):
        super().__init__()
        self.voxel_encoder = voxel_encoder
        self.middle_encoder = middle_encoder
        self.backbone = backbone
        self.neck = neck
        self.bbox_head = bbox_head

    def forward(self, voxels: Tensor, coors: Tensor, batch_size: int) -> dict[str, Tensor]:
        """Points (N, C) in voxels (N, 4) (batch, z, y, x) to the maps of the head by name."""
        feats, coors = self.voxel_encoder(voxels, coors)
        x = self.middle_encoder(feats, coors, batch_size)
        return self.bbox_head(self.neck(self.backbone(x)))
