"""Semantic segmentation of point clouds as mmdet3d's MinkUNet does it, without mmdet3d."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmeffvit.models.points.model import PointModel, build_module, with_defaults
from mmeffvit.ops.points import check_offset, offset_to_batch
from mmeffvit.registry import MODELS
from mmeffvit.structures import PointData, PointDataSample


@MODELS.register_module()
class PointSegmentor(PointModel):
    """A backbone of points and a classifier, trained and tested with mmdet3d's keys.

    Weights are named ``backbone.*`` and ``decode_head.conv_seg.*``, as those of mmdet3d's MinkUNet.

    Predictions are ``pred_pts_seg.pts_semantic_mask`` (R) of the raw points and, if asked for,
    ``pts_seg_logits`` (num_classes, R). With ``inputs['fragments']``, per sample an iterable of
    ``dict(points=(M, C), coors=(M, 3), index=(M))``, they are votes: a fragment has one point per
    voxel, `index` says which of the raw points ``inputs['points']`` it is, and probabilities are
    summed per raw point over all fragments that have it.

    Args:
        backbone: Of `BasePointBackbone`, or its config: ``backbone(voxels, coors)`` gives (M, C).
        decode_head: A `PointSegHead`, or its config; ``channels`` are the backbone's if left out.
        data_preprocessor: Config of `PointDataPreprocessor`, or the module.
        train_cfg: Passed to the head.
        test_cfg: ``max_points``: voxels of the fragments that run together (default 1,000,000;
            one fragment is never split); ``with_logits``: also give logits, or with fragments the
            mean probabilities (default False).
        init_cfg: See `PointModel`.

    Raises:
        ValueError: `test_cfg` has an unknown key.
    """

    def __init__(
        self,
        backbone: nn.Module | Mapping[str, Any],
        decode_head: nn.Module | Mapping[str, Any],
        data_preprocessor: nn.Module | Mapping[str, Any] | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        test_cfg: Mapping[str, Any] | None = None,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = build_module(backbone)
        defaults = {"type": "mmeffvit.PointSegHead"}
        if hasattr(self.backbone, "out_channels"):
            defaults["channels"] = self.backbone.out_channels
        self.decode_head = build_module(decode_head, **defaults)
        self.train_cfg = train_cfg
        defaults = {"max_points": 1_000_000, "with_logits": False}
        self.test_cfg = with_defaults("test_cfg", defaults, test_cfg)

    def extract_feat(self, inputs: Mapping[str, Any]) -> Tensor:
        """Features (M, C) of all voxels of a batch."""
        voxels = inputs["voxels"]
        return self.backbone(voxels["voxels"], voxels["coors"])

    def _forward(self, inputs: Mapping[str, Any]) -> Tensor:
        """Logits (M, num_classes) of all voxels."""
        return self.decode_head(self.extract_feat(inputs))

    def loss(
        self, inputs: Mapping[str, Any], data_samples: Sequence[PointDataSample]
    ) -> dict[str, Tensor]:
        return self.decode_head.loss(self.extract_feat(inputs), data_samples, self.train_cfg)

    def predict(
        self, inputs: Mapping[str, Any], data_samples: Sequence[PointDataSample]
    ) -> list[PointDataSample]:
        if "fragments" in inputs:
            pairs = zip(inputs["fragments"], inputs["points"])
            scores = [self._vote(fragments, len(points)) for fragments, points in pairs]
        else:
            scores = self.decode_head.predict(self.extract_feat(inputs), data_samples)
        for sample, own in zip(data_samples, scores):
            sample.pred_pts_seg = PointData(pts_semantic_mask=own.argmax(dim=1))
            if self.test_cfg["with_logits"]:
                sample.pred_pts_seg.pts_seg_logits = own.t()
        return list(data_samples)

    def _vote(self, fragments: Iterable[Mapping[str, Tensor]], num_points: int) -> Tensor:
        """Mean probabilities (R, num_classes) of the raw points of one sample."""
        device = next(self.parameters()).device
        total = torch.zeros(num_points, self.decode_head.num_classes, device=device)
        votes = torch.zeros(num_points, device=device)
        for together in _groups(fragments, self.test_cfg["max_points"]):
            coors = [
                torch.cat((torch.full_like(part["coors"][:, :1], i), part["coors"]), dim=1)
                for i, part in enumerate(together)
            ]
            voxels = torch.cat([part["points"] for part in together]).to(device)
            x = self.backbone(voxels, torch.cat(coors).to(device))
            index = torch.cat([part["index"] for part in together]).to(device)
            if int(index.min()) < 0 or int(index.max()) >= num_points:
                raise ValueError(
                    f"fragments have rows {int(index.min())} to {int(index.max())} of "
                    f"{num_points} raw points"
                )
            total.index_add_(0, index, self.decode_head(x).float().softmax(dim=1))
            votes.index_add_(0, index, torch.ones_like(index, dtype=votes.dtype))
        if bool((votes == 0).any()):
            raise ValueError(
                f"{int((votes == 0).sum())} of {num_points} raw points are in no fragment; every "
                "point needs one"
            )
        return total / votes[:, None]


def _groups(fragments: Iterable[Mapping], max_points: int) -> Iterator[list[Mapping]]:
    """Fragments in their order, as many together as have `max_points` voxels."""
    together: list[Mapping] = []
    count = 0
    for fragment in fragments:
        if together and count + len(fragment["points"]) > max_points:
            yield together
            together, count = [], 0
        together.append(fragment)
        count += len(fragment["points"])
    if together:
        yield together


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
