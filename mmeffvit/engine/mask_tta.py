"""Merging masks that are predicted on several views of an image."""

from typing import Any

import torch
from mmcv.ops import batched_nms
from mmdet.models.test_time_augs import DetTTAModel
from mmengine.structures import InstanceData
from torch import Tensor

from mmeffvit.registry import MODELS

#: how a view was mirrored -> axes of masks (n, H, W)
_AXES = {"horizontal": (2,), "vertical": (1,), "diagonal": (1, 2)}


@MODELS.register_module()
class MaskTTAModel(DetTTAModel):
    """mmdet's `DetTTAModel`, arguments included, for detectors that predict masks too.

    Objects of all views compete by their boxes, as there; one that is kept brings the mask of its
    own view, mirrored back. Masks of views are not averaged: they are of the size of the image and
    binary by then. What has no masks is merged as mmdet merges it.
    """

    def _merge_single_sample(self, data_samples: list[Any]) -> Any:
        views = [sample.pred_instances for sample in data_samples]
        if any("masks" not in view for view in views):
            return super()._merge_single_sample(data_samples)
        metas = [sample.metainfo for sample in data_samples]
        boxes, scores = self.merge_aug_bboxes(
            [view.bboxes for view in views], [view.scores for view in views], metas
        )
        merged = data_samples[0]
        if not boxes.numel():
            return merged
        labels = torch.cat([view.labels for view in views])
        masks = torch.cat([mirrored_back(view.masks, meta) for view, meta in zip(views, metas)])
        kept, index = batched_nms(boxes, scores, labels, self.tta_cfg.nms)
        kept, index = kept[: self.tta_cfg.max_per_img], index[: self.tta_cfg.max_per_img]
        merged.pred_instances = InstanceData(
            bboxes=kept[:, :4], scores=kept[:, 4], labels=labels[index], masks=masks[index]
        )
        return merged


def mirrored_back(masks: Tensor, meta: dict[str, Any]) -> Tensor:
    """Masks (n, H, W) of a view as they lie in the image.

    Args:
        masks: Of the view, in the size of the image.
        meta: ``flip`` and ``flip_direction`` of the view.
    """
    return masks.flip(_AXES[meta["flip_direction"]]) if meta.get("flip") else masks
