"""Point clouds to voxels on the device of the model, with the keys of mmdet3d's preprocessor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmeffvit.ops.points import check_finite, dynamic_voxelize, unique_rows
from mmeffvit.registry import MODELS
from mmeffvit.structures import PointDataSample

VOXEL_TYPES = ("minkunet", "dynamic")

#: coarsest step of float32 coordinates, in voxels, with which voxels are still told apart
_LARGEST_STEP = 0.05


@MODELS.register_module()
class PointDataPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the device and adds its voxels; no operator needs CUDA.

    ``data['inputs']`` has lists with an entry per sample: ``points`` (N_i, C), optionally ``coors``
    (N_i, 3), the voxel (x, y, z) of each of them where a pipeline has reduced points to one per
    voxel already. It comes back with ``voxels``, a dict of all samples together:

    - 'minkunet': ``voxels`` (M, C) one point of each voxel, ``coors`` (M, 4) int64
      (batch, x, y, z), samples one after the other. Points are rounded to the nearest voxel, the
      first point of a voxel stands for it, and voxels are counted from the lowest of the sample.
      Data samples get ``batch_idx`` (M_i), ``point2voxel_map`` (N_i) and
      ``gt_pts_seg.voxel_semantic_mask`` (M_i); the last two are the pipeline's with ``coors``.
    - 'dynamic': ``voxels`` (N, C) all points, ``coors`` (N, 4) int64 (batch, z, y, x), whose last
      three are -1 for points outside of the range.

    ``fragments``, the parts of a cloud that are voted over, stay where they are, one iterable of
    dicts per sample, and no voxels are made; see `PointSegmentor`.

    Args:
        voxel: Make voxels.
        voxel_type: 'minkunet' or 'dynamic'.
        voxel_layer: ``voxel_size`` (x, y, z) in metres and, for 'dynamic', ``point_cloud_range``
            (lowest x, y, z, then highest). Other keys of mmdet3d's are not needed.
        max_voxels: Voxels of a sample at most while training, drawn at random; 'minkunet' only.
        batch_first: Whether the sample is the first column of 'minkunet' coors, or the last.
        non_blocking: Of mmengine.

    Raises:
        ValueError: The type is unknown, or `voxel_layer` lacks a key.
    """

    def __init__(
        self,
        voxel: bool = True,
        voxel_type: str = "minkunet",
        voxel_layer: Mapping[str, Any] | None = None,
        max_voxels: int | None = None,
        batch_first: bool = True,
        non_blocking: bool = False,
    ):
        super().__init__(non_blocking)
        if voxel_type not in VOXEL_TYPES:
            raise ValueError(
                f"voxel_type must be one of {', '.join(VOXEL_TYPES)}, got '{voxel_type}'"
            )
        voxel_layer = dict(voxel_layer or {})
        needed = {"voxel_size", "point_cloud_range"} if voxel_type == "dynamic" else {"voxel_size"}
        if voxel and needed - voxel_layer.keys():
            raise ValueError(
                f"voxel_type='{voxel_type}' needs {', '.join(sorted(needed))} in voxel_layer, got "
                f"{', '.join(voxel_layer) or 'nothing'}"
            )
        self.voxel = voxel
        self.voxel_type = voxel_type
        self.voxel_layer = voxel_layer
        self.max_voxels = max_voxels
        self.batch_first = batch_first

    def forward(self, data: dict, training: bool = False) -> dict:
        """A batch of the data loader to ``dict(inputs, data_samples)`` on the device.

        Raises:
            ValueError: There are no samples, coordinates are not finite or too far from the
                origin, or a sample that is to be segmented is empty.
        """
        inputs = dict(data["inputs"])
        fragments = inputs.pop("fragments", None)
        inputs = self.cast_data(inputs)
        if not inputs["points"]:
            raise ValueError("the batch has no samples: inputs['points'] is an empty list")
        # a caller that wants scores alone has no samples
        samples = self.cast_data(data.get("data_samples"))
        samples = samples or [PointDataSample() for _ in inputs["points"]]
        if fragments is not None:
            inputs["fragments"] = _by_sample(fragments)
        elif self.voxel and self.voxel_type == "dynamic":
            inputs["voxels"] = self._dynamic(inputs["points"])
        elif self.voxel:
            inputs["voxels"] = self._minkunet(inputs, samples, training)
        return {"inputs": inputs, "data_samples": samples}

    def _dynamic(self, points: Sequence[Tensor]) -> dict[str, Tensor]:
        layer = self.voxel_layer
        coors = []
        for sample, own in enumerate(points):
            _check_sample(sample, own)
            voxels = dynamic_voxelize(own, layer["voxel_size"], layer["point_cloud_range"])
            coors.append(_with_sample(sample, voxels.long()))
        return {"voxels": torch.cat(list(points)), "coors": torch.cat(coors)}

    def _minkunet(
        self, inputs: dict, samples: Sequence[PointDataSample], training: bool
    ) -> dict[str, Tensor]:
        voxels, coors = [], []
        for index, (points, sample) in enumerate(zip(inputs["points"], samples)):
            _check_sample(index, points)
            if len(points) == 0:
                raise ValueError(f"sample {index} of the batch has no points")
            if "coors" in inputs:
                own = inputs["coors"][index].long()
                if own.shape != (len(points), 3):
                    raise ValueError(
                        f"sample {index} of the batch has {len(points)} points and coors of the "
                        f"shape {tuple(own.shape)}; there must be one (x, y, z) for each point"
                    )
            else:
                own, rows = self._voxelize(points, sample)
                points = points[rows]
            if training and self.max_voxels is not None and len(points) > self.max_voxels:
                kept = torch.randperm(len(points))[: self.max_voxels].to(points.device)
                points, own = points[kept], own[kept]
                _select_voxels(sample, kept)
            own = _with_sample(index, own, self.batch_first)
            sample.batch_idx = own[:, 0 if self.batch_first else 3]
            voxels.append(points)
            coors.append(own)
        return {"voxels": torch.cat(voxels), "coors": torch.cat(coors)}

    def _voxelize(self, points: Tensor, sample: PointDataSample) -> tuple[Tensor, Tensor]:
        """Voxels (M, 3) of the points and the row (M) of the first point of each."""
        size = points.new_tensor(self.voxel_layer["voxel_size"])
        xyz = points[:, :3]
        step = xyz.abs().amax() * torch.finfo(xyz.dtype).eps
        if bool(step > _LARGEST_STEP * size.min()):
            raise ValueError(
                f"points lie up to {float(xyz.abs().amax()):.3g} m from the origin, where "
                f"{xyz.dtype} cannot tell voxels of {float(size.min()):g} m apart; subtract the "
                "mean of the scene first"
            )
        coors = (xyz / size).round().long()
        groups = unique_rows(coors - coors.amin(0))
        rows = torch.full_like(groups.counts, len(points)).scatter_reduce_(
            0, groups.inverse, torch.arange(len(points), device=points.device), "amin"
        )
        sample.point2voxel_map = groups.inverse
        if "gt_pts_seg" in sample and "pts_semantic_mask" in sample.gt_pts_seg:
            labels = sample.gt_pts_seg.pts_semantic_mask
            sample.gt_pts_seg.voxel_semantic_mask = labels[rows]
        return groups.rows, rows


def _check_sample(index: int, points: Tensor) -> None:
    if points.dim() != 2 or points.shape[1] < 3:
        raise ValueError(
            f"sample {index} of the batch has points of the shape {tuple(points.shape)}; they must "
            "be (N, C) with x, y, z first"
        )
    check_finite(points, f"sample {index} of the batch")


def _with_sample(sample: int, coors: Tensor, first: bool = True) -> Tensor:
    column = torch.full_like(coors[:, :1], sample)
    return torch.cat((column, coors) if first else (coors, column), dim=1)


def _select_voxels(sample: PointDataSample, kept: Tensor) -> None:
    # points have lost their voxel
    if "point2voxel_map" in sample:
        del sample.point2voxel_map
    if "gt_pts_seg" in sample and "voxel_semantic_mask" in sample.gt_pts_seg:
        labels = sample.gt_pts_seg.voxel_semantic_mask
        sample.gt_pts_seg.voxel_semantic_mask = labels[kept]


def _by_sample(fragments: Sequence) -> list[Iterable[dict[str, Tensor]]]:
    """Fragments per sample, from what mmengine's pseudo_collate makes of them.

    It turns lists of dicts, one list per sample, into one list of dicts of lists, and leaves other
    iterables alone.
    """
    if not fragments or not isinstance(fragments[0], Mapping):
        return list(fragments)
    keys = list(fragments[0])
    count = len(fragments[0][keys[0]])
    return [[{k: part[k][sample] for k in keys} for part in fragments] for sample in range(count)]
