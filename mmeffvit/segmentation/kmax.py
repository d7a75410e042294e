"""kMaX-DeepLab on mmdet's interfaces, under its detector `MaskFormer`; needs mmdet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.models.seg_heads.panoptic_fusion_heads.base_panoptic_fusion_head import (
    BasePanopticFusionHead,
)
from mmdet.models.utils import preprocess_panoptic_gt
from mmdet.structures.mask import mask2bbox
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmeffvit.errors import did_you_mean
from mmeffvit.models.heads import kmax
from mmeffvit.models.heads.kmax.pixel_decoder import resize
from mmeffvit.registry import MODELS
from mmeffvit.segmentation.kmax_masks import KMaXBase


@MODELS.register_module()
class KMaXHead(KMaXBase):
    """Queries as cluster centres, for panoptic and for instance segmentation (arXiv 2207.04044).

    The `panoptic_head` of mmdet's `MaskFormer`, with `KMaXFusionHead` beside it. There is no
    assigner and no sampler: one matching per image serves all layers.

    Without a map of stuff in the samples (instance segmentation alone), pixels of no object are in
    no mask loss; with ``num_stuff_classes=1`` they are the one class of stuff.

    Args:
        in_channels: Channels of the maps of the backbone, fine to coarse.
        strides: Of the maps; true masks are taken at every pixel of the smallest.
        num_things_classes: Number of classes of things.
        num_stuff_classes: Number of classes of stuff.
        criterion: Arguments of `mmeffvit.models.heads.kmax.KMaXCriterion`.
        train_cfg: Of the detector; nothing is read from it.
        test_cfg: Of the detector; `KMaXFusionHead` reads it.
        init_cfg: Of mmengine.
        **options: Of `mmeffvit.models.heads.kmax.KMaX`: ``num_queries``, ``pixel_decoder``,
            ``decoder``, ``semantic``, ``semantic_options``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int] = (4, 8, 16, 32),
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        criterion: Mapping[str, Any] | None = None,
        train_cfg: Mapping | None = None,
        test_cfg: Mapping | None = None,
        init_cfg: dict | None = None,
        **options: Any,
    ):
        num_classes = num_things_classes + num_stuff_classes
        super().__init__(in_channels, strides, num_classes, criterion, init_cfg, **options)
        self.num_things_classes = num_things_classes
        self.num_stuff_classes = num_stuff_classes

    def forward(
        self, feats: Sequence[Tensor], data_samples: Sequence | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits (B, N, K + 1) and mask logits (B, N, h, w) of the layers, the last last."""
        output = self.network(feats)
        predictions = [*output.layers, output.final]
        return [p.class_logits for p in predictions], [p.mask_logits for p in predictions]

    def loss(self, feats: Sequence[Tensor], data_samples: Sequence) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            feats: Maps of the backbone.
            data_samples: mmdet's, with ``gt_instances`` (labels, masks) and, for panoptic
                segmentation, ``gt_sem_seg``.

        Raises:
            ValueError: A sample has no masks.
        """
        return self._losses(feats, data_samples)

    def _truth(self, sample: Any) -> tuple[Tensor, Tensor]:
        truth = sample.gt_instances
        if "masks" not in truth:
            raise ValueError(
                "kMaX-DeepLab learns masks, and gt_instances have none; load annotations with "
                "with_mask=True"
            )
        stuff = sample.gt_sem_seg.sem_seg if "gt_sem_seg" in sample else None
        labels, masks = preprocess_panoptic_gt(
            truth.labels, truth.masks, stuff, self.num_things_classes, self.num_stuff_classes
        )
        if stuff is None and self.num_stuff_classes == 1:
            rest = self._rest(sample, masks)
            labels = torch.cat((labels, labels.new_tensor([self.num_things_classes])))
            masks = torch.cat((masks, rest[None].to(masks)))
        return labels, masks

    @staticmethod
    def _rest(sample: Any, masks: Tensor) -> Tensor:
        """(H, W): what no object covers, neither crowds nor padding."""
        height, width = sample.metainfo["img_shape"][:2]
        rest = torch.zeros(masks.shape[1:], dtype=torch.bool, device=masks.device)
        rest[:height, :width] = True
        rest &= ~masks.bool().any(0)
        ignored = sample.get("ignored_instances")
        if ignored is not None and "masks" in ignored and len(ignored.masks):
            # mmdet does not always pad them as it pads the others
            crowds = ignored.masks.to_tensor(torch.bool, masks.device).any(0)
            rest[: crowds.shape[0], : crowds.shape[1]] &= ~crowds
        return rest

    def predict(self, feats: Sequence[Tensor], data_samples: Sequence) -> tuple[Tensor, Tensor]:
        """Class logits (B, N, K + 1), and mask logits (B, N, H, W) at the size of the input."""
        return self._predict(feats, data_samples[0].metainfo["batch_input_shape"])


@MODELS.register_module()
class KMaXFusionHead(BasePanopticFusionHead):
    """Predictions of `KMaXHead` to panoptic and instance segmentation.

    Args:
        num_things_classes: Number of classes of things.
        num_stuff_classes: Number of classes of stuff.
        test_cfg: Of the detector: ``panoptic_on`` (True), ``instance_on`` (False),
            ``max_per_image`` (100) instances, and the fields of
            `mmeffvit.models.heads.kmax.PanopticRules`.
        init_cfg: Of mmengine.

    Raises:
        ValueError: `test_cfg` says something else.
    """

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        test_cfg: Mapping | None = None,
        init_cfg: dict | None = None,
    ):
        test_cfg = dict(test_cfg or {})
        super().__init__(num_things_classes, num_stuff_classes, test_cfg, init_cfg=init_cfg)
        names = {entry.name for entry in fields(kmax.PanopticRules)}
        allowed = {*names, "panoptic_on", "instance_on", "max_per_image"}
        for name in sorted(test_cfg.keys() - allowed):
            raise ValueError(
                f"test_cfg of kMaX-DeepLab has no '{name}'{did_you_mean(name, allowed)}; it has "
                f"{', '.join(sorted(allowed))}. For semantic maps take mmseg and KMaXSegHead."
            )
        self.rules = kmax.PanopticRules(**{k: v for k, v in test_cfg.items() if k in names})

    def loss(self, **kwargs: Any) -> dict:
        """There is none."""
        return {}

    def predict(
        self,
        class_logits: Tensor,
        mask_logits: Tensor,
        data_samples: Sequence,
        rescale: bool = True,
        **kwargs: Any,
    ) -> list[dict]:
        """Results of each image: ``pan_results`` and ``ins_results``, as `test_cfg` wants them.

        Args:
            class_logits: (B, N, K + 1).
            mask_logits: (B, N, H, W), at the size of the padded input.
            data_samples: mmdet's.
            rescale: Whether masks are brought to the size of the original image.
            **kwargs: Not looked at.
        """
        align_corners = mask_logits.shape[-1] % 2 == 1
        results = []
        for classes, masks, sample in zip(class_logits, mask_logits, data_samples):
            height, width = sample.metainfo["img_shape"][:2]
            masks = masks[:, :height, :width]
            original = sample.metainfo["ori_shape"][:2]
            if rescale and tuple(masks.shape[1:]) != tuple(original):
                masks = resize(masks[None], original, align_corners)[0]
            found = {}
            if self.test_cfg.get("panoptic_on", True):
                found["pan_results"] = self.panoptic_postprocess(classes, masks)
            if self.test_cfg.get("instance_on", False):
                found["ins_results"] = self.instance_postprocess(classes, masks)
            results.append(found)
        return results

    def panoptic_postprocess(self, class_logits: Tensor, mask_logits: Tensor) -> PixelData:
        """``sem_seg`` (1, H, W): class of stuff, class + 1000 n of things, K for nothing."""
        found = kmax.panoptic(class_logits, mask_logits, self.num_things_classes, self.rules)
        numbers, things = [self.num_classes], 0
        for label in found.labels:
            is_thing = label < self.num_things_classes
            things += is_thing
            numbers.append(label + things * INSTANCE_OFFSET if is_thing else label)
        lookup = torch.tensor(numbers, dtype=torch.int32, device=mask_logits.device)
        return PixelData(sem_seg=lookup[found.ids.long()][None])

    def instance_postprocess(self, class_logits: Tensor, mask_logits: Tensor) -> InstanceData:
        """The best things: scores, labels, masks and the boxes around them."""
        most = self.test_cfg.get("max_per_image", 100)
        found = kmax.instances(class_logits, mask_logits, self.num_things_classes, most)
        scores, labels, masks = found
        return InstanceData(bboxes=mask2bbox(masks), labels=labels, scores=scores, masks=masks)
