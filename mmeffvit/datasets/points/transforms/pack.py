"""From a pipeline's dict to what models take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import InstanceData

from mmeffvit.datasets.points.base import PointTransform, source_of
from mmeffvit.registry import TRANSFORMS
from mmeffvit.structures import PointData, PointDataSample


def point_features(results: dict, feat_keys: Sequence[str]) -> torch.Tensor:
    """(N, C) float32, the columns of some keys side by side.

    Raises:
        KeyError: A key is not there.
        ValueError: Arrays have different lengths.
    """
    missing = [key for key in feat_keys if key not in results]
    if missing:
        there = [key for key, value in results.items() if isinstance(value, np.ndarray)]
        raise KeyError(
            f"feat_keys asks for {missing}, but the sample has {there}{source_of(results)}; load "
            "them, or leave them out of feat_keys"
        )
    columns = [np.asarray(results[key], np.float32) for key in feat_keys]
    columns = [column[:, None] if column.ndim == 1 else column for column in columns]
    lengths = {key: len(column) for key, column in zip(feat_keys, columns)}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"features must have one length, got {lengths}{source_of(results)}")
    return torch.from_numpy(np.concatenate(columns, axis=1))


@TRANSFORMS.register_module()
class PackPointInputs(PointTransform):
    """Pack a sample as ``dict(inputs=..., data_samples=PointDataSample)``, as mmdet3d does.

    Inputs are ``points`` (N, C) float32; ``coors`` (N, 3) int64 where points are voxels; and
    ``fragments`` where `TestTimeFragments` made them. The sample gets, if they are there,

    - ``gt_pts_seg.pts_semantic_mask``, of the raw points, and ``gt_pts_seg.voxel_semantic_mask``,
      of the voxels, and ``point2voxel_map``;
    - ``gt_instances_3d.bboxes_3d`` and ``.labels_3d``;
    - ``eval_ann_info``, the same as numpy arrays for metrics, unless the data set gave it.

    Args:
        feat_keys: Keys per point whose columns are the points' features; x, y, z come first.
        meta_keys: Keys kept as meta information.

    Raises:
        ValueError: A room has no points left. Sweeps may be empty.
    """

    def __init__(
        self,
        feat_keys: Sequence[str] = ("coord", "color"),
        meta_keys: Sequence[str] = ("sample_idx", "lidar_path"),
    ):
        if not feat_keys or feat_keys[0] != "coord":
            raise ValueError(f"feat_keys must begin with 'coord', got {feat_keys}")
        self.feat_keys = tuple(feat_keys)
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        inputs = {"points": point_features(results, self.feat_keys)}
        # an empty sweep is a map without pillars; points of a room are what is labelled
        is_room = not results.keys().isdisjoint({"semantic_key", "pts_semantic_mask"})
        if is_room and not len(inputs["points"]):
            raise ValueError(f"the cloud has no points left{source_of(results)}")
        if "grid_coord" in results:
            inputs["coors"] = _tensor(results["grid_coord"], np.int64)
        if "fragments" in results:
            inputs["fragments"] = results["fragments"]
        sample = PointDataSample()
        sample.set_metainfo({key: results[key] for key in self.meta_keys if key in results})
        sample.eval_ann_info = dict(results.get("eval_ann_info") or {})
        self._pack_labels(results, sample)
        self._pack_boxes(results, sample)
        return {"inputs": inputs, "data_samples": sample}

    def _pack_labels(self, results: dict, sample: PointDataSample) -> None:
        if "point2voxel_map" in results:
            sample.point2voxel_map = _tensor(results["point2voxel_map"], np.int64)
        if "pts_semantic_mask" not in results:
            return
        labels = results["pts_semantic_mask"]
        raw = results.get("raw_semantic_mask", labels)
        sample.gt_pts_seg = PointData(pts_semantic_mask=_tensor(raw, np.int64))
        if "grid_coord" in results:
            sample.gt_pts_seg.voxel_semantic_mask = _tensor(labels, np.int64)
        if "pts_instance_mask" in results and raw is labels:
            sample.gt_pts_seg.pts_instance_mask = _tensor(results["pts_instance_mask"], np.int64)
        sample.eval_ann_info.setdefault("pts_semantic_mask", np.array(raw))

    def _pack_boxes(self, results: dict, sample: PointDataSample) -> None:
        if "gt_bboxes_3d" not in results:
            return
        boxes, labels = results["gt_bboxes_3d"], results["gt_labels_3d"]
        sample.gt_instances_3d = InstanceData(
            bboxes_3d=_tensor(boxes, np.float32), labels_3d=_tensor(labels, np.int64)
        )
        sample.eval_ann_info.setdefault("gt_bboxes_3d", np.array(boxes))
        sample.eval_ann_info.setdefault("gt_labels_3d", np.array(labels))


def _tensor(array: np.ndarray, dtype: type) -> torch.Tensor:
    return torch.from_numpy(np.array(array, dtype))  # a copy: metrics and models keep their own
