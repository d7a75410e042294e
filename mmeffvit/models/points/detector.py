"""Detection in point clouds as mmdet3d's DynamicVoxelNet does it, without mmdet3d."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmeffvit.models.points.model import PointModel, build_module
from mmeffvit.registry import MODELS
from mmeffvit.structures import PointDataSample


@MODELS.register_module()
class PointDetector(PointModel):
    """Voxel encoder, middle encoder, backbone, neck and head, under mmdet3d's names.

    Ground truth is ``gt_instances_3d`` with ``bboxes_3d``, a tensor (n, 7 or 9) or anything with
    such a ``tensor``, and ``labels_3d`` (n); predictions are ``pred_instances_3d`` with
    ``bboxes_3d`` (n, 7 or 9), ``scores_3d`` and ``labels_3d``. Boxes are (x, y, z of the bottom,
    dx, dy, dz, yaw).

    Args:
        voxel_encoder: Such as `DynamicVFE`, or its config.
        middle_encoder: Such as `FlatFormer`.
        backbone: Such as `SECOND`.
        neck: Such as `SECONDFPN`.
        bbox_head: Such as `CenterHead`.
        data_preprocessor: Config of a `PointDataPreprocessor` for 'dynamic' voxels, or the module.
        init_cfg: See `PointModel`.
    """

    def __init__(
        self,
        voxel_encoder: nn.Module | Mapping[str, Any],
        middle_encoder: nn.Module | Mapping[str, Any],
        backbone: nn.Module | Mapping[str, Any],
        neck: nn.Module | Mapping[str, Any],
        bbox_head: nn.Module | Mapping[str, Any],
        data_preprocessor: nn.Module | Mapping[str, Any] | None = None,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        self.voxel_encoder = build_module(voxel_encoder)
        self.middle_encoder = build_module(middle_encoder)
        self.backbone = build_module(backbone)
        self.neck = build_module(neck)
        self.bbox_head = build_module(bbox_head)

    def extract_feat(self, inputs: Mapping[str, Any]) -> Sequence[Tensor]:
        """Maps of the neck; a sample without points in range is a map of no pillars."""
        voxels = inputs["voxels"]
        feats, coors = self.voxel_encoder(voxels["voxels"], voxels["coors"])
        x = self.middle_encoder(feats, coors, len(inputs["points"]))
        return self.neck(self.backbone(x))

    def _forward(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Maps of the head by name."""
        return self.bbox_head(self.extract_feat(inputs))

    def loss(
        self, inputs: Mapping[str, Any], data_samples: Sequence[PointDataSample]
    ) -> dict[str, Tensor]:
        instances = [sample.gt_instances_3d for sample in data_samples]
        boxes = [getattr(own.bboxes_3d, "tensor", own.bboxes_3d) for own in instances]
        labels = [own.labels_3d for own in instances]
        return self.bbox_head.loss(self._forward(inputs), boxes, labels)

    def predict(
        self, inputs: Mapping[str, Any], data_samples: Sequence[PointDataSample]
    ) -> list[PointDataSample]:
        results = self.bbox_head.predict(self._forward(inputs))
        for sample, (boxes, scores, labels) in zip(data_samples, results):
            sample.pred_instances_3d = InstanceData(
                bboxes_3d=boxes, scores_3d=scores, labels_3d=labels
            )
        return list(data_samples)
