"""kMaX-DeepLab on mmseg's interfaces, under its `EncoderDecoder`; needs mmseg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmeffvit.models.heads import kmax
from mmeffvit.registry import MODELS
from mmeffvit.segmentation.kmax_masks import KMaXBase


@MODELS.register_module()
class KMaXSegHead(KMaXBase):
    """Queries as cluster centres, for semantic segmentation (arXiv 2207.04044).

    A segment for each class that an image has; the scores of a pixel are those of its queries'
    classes, times its share in their masks.

    Args:
        in_channels: Channels of the maps of the backbone, fine to coarse.
        strides: Of the maps; true masks are taken at every pixel of the smallest.
        num_classes: K.
        ignore_index: Label of pixels of no class.
        align_corners: How mmseg resizes scores to the original image.
        criterion: Arguments of `mmeffvit.models.heads.kmax.KMaXCriterion`.
        init_cfg: Of mmengine.
        **options: Of `mmeffvit.models.heads.kmax.KMaX`: ``num_queries``, ``pixel_decoder``,
            ``decoder``, ``semantic``, ``semantic_options``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int] = (4, 8, 16, 32),
        num_classes: int = 150,
        ignore_index: int = 255,
        align_corners: bool = False,
        criterion: Mapping[str, Any] | None = None,
        init_cfg: dict | None = None,
        **options: Any,
    ):
        super().__init__(in_channels, strides, num_classes, criterion, init_cfg, **options)
        self.in_channels, self.out_channels = list(in_channels), num_classes
        self.ignore_index, self.align_corners = ignore_index, align_corners

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Class scores (B, K, h, w) at the finest map, from 0 to 1."""
        final = self.network(feats, with_layers=False).final
        return kmax.semantic(final.class_logits, final.mask_logits)

    def loss(
        self, feats: Sequence[Tensor], data_samples: Sequence, train_cfg: Mapping | None = None
    ) -> dict[str, Tensor]:
        """Losses of a batch; data samples are mmseg's, with ``gt_sem_seg``."""
        return self._losses(feats, data_samples)

    def _truth(self, sample: Any) -> tuple[Tensor, Tensor]:
        labels = sample.gt_sem_seg.data[0]
        present = labels.unique()
        present = present[(present >= 0) & (present < self.num_classes)].long()
        return present, labels == present[:, None, None]

    def predict(
        self, feats: Sequence[Tensor], batch_img_metas: Sequence[Mapping], test_cfg: Mapping
    ) -> Tensor:
        """Class scores (B, K, H, W) at the size of the input, padding included."""
        meta = batch_img_metas[0]
        # mmseg's crops of a sliding window have a torch.Size, and no padding
        is_crop = isinstance(meta["img_shape"], torch.Size)
        size = meta["img_shape"] if is_crop else meta.get("pad_shape", meta["img_shape"])
        return kmax.semantic(*self._predict(feats, size[:2]))
