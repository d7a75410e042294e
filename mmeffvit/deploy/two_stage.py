"""Detectors of two stages: Faster, Mask and Cascade R-CNN of mmdet.

B images, P proposals, K boxes, N classes, M side of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmeffvit.deploy.errors import ExportError
from mmeffvit.deploy.one_stage import drop_small, grid_priors, rows
from mmeffvit.deploy.operators import pool_regions
from mmeffvit.deploy.selection import (
    NONE,
    Candidates,
    Suppression,
    as_outputs,
    decode,
    gather,
    suppress,
)


class Proposals(nn.Module):
    """The region proposal network (Faster R-CNN, arXiv:1506.01497) of mmdet's ``RPNHead``.

    Args:
        head: That head.

    Raises:
        ExportError: Another head, which proposes in its own way.
    """

    def __init__(self, head: nn.Module) -> None:
        from mmdet.models.dense_heads import RPNHead

        super().__init__()
        _check_methods(head, RPNHead, "predict_by_feat", "_predict_by_feat_single")
        self.head = head
        cfg = head.test_cfg
        self.suppression = Suppression.from_config(cfg.nms)
        self.count, self.candidates = int(cfg.max_per_img), int(cfg.get("nms_pre", -1))
        self.smallest_box = float(cfg.get("min_bbox_size", -1))

    def forward(self, maps: Sequence[Tensor], size: Tensor) -> Candidates:
        """Maps of a pyramid to proposals (B, P, 4) of the image of `size`, best first."""
        logits, deltas = self.head(maps)
        levels = zip(logits, deltas, grid_priors(self.head, logits))
        found = [self._choose(number, *level) for number, level in enumerate(levels)]
        scores, deltas, priors, number = (torch.cat(parts, 1) for parts in zip(*found))
        boxes = decode(self.head.bbox_coder, priors, deltas, size)
        scores = drop_small(boxes, scores, self.smallest_box)
        # boxes of other levels do not count, as boxes of other classes do not elsewhere
        return suppress(Candidates(boxes, scores, number), self.suppression, self.count, NONE)

    def _choose(
        self, number: int, logits: Tensor, deltas: Tensor, priors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The best priors of a level: scores, deltas, priors, and the number of the level."""
        head = self.head
        logits = rows(logits, head.cls_out_channels)
        deltas = rows(deltas, head.bbox_coder.encode_size)
        priors = priors.unsqueeze(0).expand(logits.size(0), -1, -1)
        if head.use_sigmoid_cls:
            scores = logits.sigmoid().squeeze(-1)
        else:
            scores = logits.softmax(-1)[..., 0]
        if self.candidates > 0:
            scores, chosen = scores.topk(torch.sym_min(self.candidates, scores.size(1)))
            deltas, priors = gather(deltas, chosen), gather(priors, chosen)
        return scores, deltas, priors, torch.full_like(scores, number, dtype=torch.int64)


class Regions(nn.Module):
    """Features of regions, of mmdet's ``SingleRoIExtractor`` with ``RoIAlign``.

    Args:
        extractor: That module.

    Raises:
        ExportError: Another extractor or layer.
    """

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        layers = list(extractor.roi_layers)
        kinds = {type(extractor).__name__, *(type(layer).__name__ for layer in layers)}
        if kinds != {"SingleRoIExtractor", "RoIAlign"} or layers[0].pool_mode != "avg":
            raise ExportError(
                f"regions are pooled by {' and '.join(sorted(kinds))}; SingleRoIExtractor with "
                "RoIAlign (pool_mode='avg') has an ONNX operator"
            )
        self.extractor = extractor
        self.scales = [float(layer.spatial_scale) for layer in layers]
        self.size = tuple(int(side) for side in layers[0].output_size)
        self.sampling_ratio = int(layers[0].sampling_ratio)
        self.aligned = bool(layers[0].aligned)

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Boxes (B, P, 4) in a pyramid of maps to features (B P, C, height, width)."""
        batch, count = boxes.shape[:2]
        image = torch.arange(batch, dtype=boxes.dtype).view(-1, 1, 1).expand(-1, count, 1)
        rois = torch.cat((image, boxes), 2).flatten(0, 1)
        maps = list(maps[: len(self.scales)])
        levels = self.extractor.map_roi_levels(rois, len(maps))
        settings = (*self.size, self.sampling_ratio, self.aligned)
        return pool_regions(maps, rois, levels, self.scales, *settings)


class TwoStage(nn.Module):
    """Boxes, and masks where there is a head for them, of a two-stage detector.

    Args:
        model: Of mmdet, with ``backbone``, perhaps ``neck``, ``rpn_head`` and ``roi_head``.

    Raises:
        ExportError: A head works in its own way.
    """

    def __init__(self, model: nn.Module) -> None:
        from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead

        super().__init__()
        self.backbone, self.proposals = model.backbone, Proposals(model.rpn_head)
        self.neck = model.neck if model.with_neck else None
        head = model.roi_head
        cascade = isinstance(head, CascadeRoIHead)
        _check_methods(
            head,
            CascadeRoIHead if cascade else StandardRoIHead,
            *("predict", "predict_bbox", "predict_mask", "_bbox_forward", "_mask_forward"),
        )
        if head.with_shared_head:
            raise ExportError(f"a shared head ({type(head.shared_head).__name__}) is not served")
        self.heads = nn.ModuleList(head.bbox_head if cascade else [head.bbox_head])
        extractors = head.bbox_roi_extractor if cascade else [head.bbox_roi_extractor]
        self.regions = nn.ModuleList(map(Regions, extractors))
        self.masks = Masks(head, cascade) if head.with_mask else None
        for box_head in self.heads:
            _check_box_head(box_head)
        cfg = model.test_cfg.rcnn
        self.suppression = Suppression.from_config(cfg.nms)
        self.count, self.least = int(cfg.max_per_img), float(cfg.score_thr)

    def forward(self, x: Tensor, size: Tensor) -> dict[str, Tensor]:
        """Normalised images (B, C, H', W'), of which `size` is no padding, to boxes."""
        maps = self.backbone(x)
        if self.neck is not None:
            maps = self.neck(maps)
        proposals = self.proposals(maps, size)
        scores, boxes = self._classify(maps, proposals.boxes, size)
        scores = scores.masked_fill((proposals.scores <= NONE).unsqueeze(-1), NONE)
        chosen = self._choose(scores, boxes)
        outputs = as_outputs(chosen)
        if self.masks is not None:
            outputs["masks"] = self.masks(maps, chosen)
        return outputs

    def _classify(self, maps: Sequence[Tensor], boxes: Tensor, size: Tensor) -> tuple:
        """Class scores (B, P, N), and boxes (B, P, N or 1, 4), after every stage."""
        logits = []
        batch, count = boxes.shape[:2]
        for stage, (head, regions) in enumerate(zip(self.heads, self.regions)):
            scores, deltas = head(regions(maps, boxes))
            scores, deltas = (part.view(batch, count, -1) for part in (scores, deltas))
            logits.append(scores)
            if stage < len(self.heads) - 1:
                if not head.reg_class_agnostic:
                    label = scores[..., :-1].argmax(-1, keepdim=True).unsqueeze(-1)
                    deltas = deltas.view(batch, count, -1, 4)
                    deltas = deltas.gather(2, label.expand(-1, -1, -1, 4)).squeeze(2)
                boxes = decode(head.bbox_coder, boxes, deltas, size)
        mean = sum(logits) / len(logits)
        deltas = deltas.view(batch, count, -1, 4)
        priors = boxes.unsqueeze(2).expand_as(deltas)
        decoded = decode(head.bbox_coder, priors.flatten(1, 2), deltas.flatten(1, 2), size).view(
            batch, count, -1, 4
        )
        return mean.softmax(-1)[..., :-1], decoded

    def _choose(self, scores: Tensor, boxes: Tensor) -> Candidates:
        """The boxes that come out, of all pairs of proposal and class."""
        batch, count, classes = scores.shape
        boxes = boxes.expand(-1, -1, classes, -1).flatten(1, 2)
        labels = torch.arange(classes).expand(batch, count, -1).flatten(1, 2)
        scores = scores.flatten(1, 2)
        scores = scores.masked_fill(scores <= self.least, NONE)
        return suppress(Candidates(boxes, scores, labels), self.suppression, self.count, NONE)


class Masks(nn.Module):
    """Masks of boxes, (B, K, M, M) probabilities, of mmdet's ``FCNMaskHead``.

    Args:
        head: The RoI head; its mask heads are averaged if it is a cascade.
        cascade: Whether it is.

    Raises:
        ExportError: A mask head works in its own way.
    """

    def __init__(self, head: nn.Module, cascade: bool) -> None:
        from mmdet.models.roi_heads.mask_heads import FCNMaskHead

        super().__init__()
        self.heads = nn.ModuleList(head.mask_head if cascade else [head.mask_head])
        extractors = head.mask_roi_extractor if cascade else [head.mask_roi_extractor]
        self.regions = nn.ModuleList(map(Regions, extractors))
        self.threshold = float(head.test_cfg.mask_thr_binary)
        for mask_head in self.heads:
            _check_methods(mask_head, FCNMaskHead, "predict_by_feat", "_predict_by_feat_single")

    def forward(self, maps: Sequence[Tensor], chosen: Candidates) -> Tensor:
        """Boxes (B, K, 4) in a pyramid of maps to masks."""
        total = []
        for head, regions in zip(self.heads, self.regions):
            logits = head(regions(maps, chosen.boxes)).unflatten(0, chosen.labels.shape)
            if head.class_agnostic:
                logits = logits[:, :, 0]
            else:
                label = chosen.labels[..., None, None, None]
                logits = logits.gather(2, label.expand(-1, -1, 1, *logits.shape[3:])).squeeze(2)
            total.append(logits.sigmoid())
        return sum(total) / len(total)


def _check_methods(head: nn.Module, kind: type, *methods: str) -> None:
    """A head has to do as the class whose form this is."""
    changed = [
        name for name in methods if getattr(type(head), name, None) is not getattr(kind, name)
    ]
    if changed:
        raise ExportError(
            f"the head {type(head).__name__} works in its own way ({', '.join(changed)}); heads "
            f"that do as mmdet's {kind.__name__} are served"
        )


def _check_box_head(head: nn.Module) -> None:
    from mmdet.models.roi_heads.bbox_heads import BBoxHead

    _check_methods(head, BBoxHead, "predict_by_feat", "_predict_by_feat_single", "regress_by_class")
    if head.custom_activation or not (head.with_cls and head.with_reg):
        raise ExportError(
            f"{type(head).__name__} with {type(head.loss_cls).__name__} is not served"
        )
