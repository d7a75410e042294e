"""What goes with a point cloud: labels, boxes and predictions, under mmdet3d's names."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from mmengine.structures import BaseDataElement, InstanceData


class PointData(BaseDataElement):
    """Values per point or per voxel, such as ``pts_semantic_mask`` and ``voxel_semantic_mask``.

    Raises:
        TypeError: A value has no length.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("_metainfo_fields", "_data_fields") and not isinstance(value, Sized):
            raise TypeError(f"{name} must have one entry per point, got {type(value).__name__}")
        super().__setattr__(name, value)


def _element(name: str, dtype: type[BaseDataElement], doc: str) -> property:
    private = f"_{name}"
    return property(
        lambda self: getattr(self, private),
        lambda self, value: self.set_field(value, private, dtype=dtype),
        lambda self: delattr(self, private),
        doc,
    )


class PointDataSample(BaseDataElement):
    """One point cloud's annotations and predictions; fields are those of mmdet3d's sample.

    Others that parts of mmeffvit set are ``eval_ann_info`` (dict of numpy arrays for metrics),
    ``point2voxel_map`` (R) int64, the voxel of each raw point, and ``batch_idx`` (M) int64, the
    sample of each voxel.
    """

    gt_pts_seg = _element("gt_pts_seg", PointData, "Labels of points and voxels.")
    pred_pts_seg = _element("pred_pts_seg", PointData, "Predicted labels of points.")
    gt_instances_3d = _element(
        "gt_instances_3d", InstanceData, "Boxes ``bboxes_3d`` (n, 7) and their ``labels_3d`` (n)."
    )
    pred_instances_3d = _element(
        "pred_instances_3d",
        InstanceData,
        "Predicted ``bboxes_3d`` (n, 7), ``scores_3d`` (n) and ``labels_3d`` (n).",
    )
