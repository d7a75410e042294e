"""What kMaX-DeepLab's heads for mmdet and mmseg share: the network, losses, sizes of masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mmeffvit.models.heads import kmax
from mmeffvit.models.heads.kmax.pixel_decoder import resize


class KMaXBase(BaseModule):
    """A `KMaX` with its losses, for samples of a toolbox.

    Args:
        in_channels: Channels of the maps of the backbone, fine to coarse.
        strides: Of the maps; true masks are taken at every pixel of the smallest.
        num_classes: K.
        criterion: Arguments of `mmeffvit.models.heads.kmax.KMaXCriterion`.
        init_cfg: Of mmengine.
        **options: Of `mmeffvit.models.heads.kmax.KMaX`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        criterion: Mapping[str, Any] | None,
        init_cfg: dict | None,
        **options: Any,
    ):
        super().__init__(init_cfg)
        self.num_classes = num_classes
        self.network = kmax.KMaX(in_channels, strides, num_classes, **options)
        self.criterion = kmax.KMaXCriterion(**(criterion or {}))

    def _truth(self, sample: Any) -> tuple[Tensor, Tensor]:
        """Classes (G,) and masks (G, H, W) of the segments of a sample."""
        raise NotImplementedError

    def _segments(self, sample: Any, size: Sequence[int]) -> kmax.Segments:
        """The same at the size (h, w) of the mask logits."""
        labels, masks = self._truth(sample)
        return kmax.Segments(labels, at_stride(masks, self.network.stride, size))

    def _losses(self, feats: Sequence[Tensor], data_samples: Sequence) -> dict[str, Tensor]:
        output = self.network(feats, with_layers=True)
        size = output.final.mask_logits.shape[-2:]
        return self.criterion(output, [self._segments(sample, size) for sample in data_samples])

    def _predict(self, feats: Sequence[Tensor], size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Class logits (B, N, K + 1), and mask logits (B, N, H, W) at the size of the input."""
        final = self.network(feats, with_layers=False).final
        return final.class_logits, to_input(final.mask_logits.float(), size)


def at_stride(masks: Tensor, stride: int, size: Sequence[int]) -> Tensor:
    """Masks (G, H, W) where the mask logits (h, w) lie in the image, bool: see `to_input`.

    Of an odd width every `stride`-th pixel from the first, as the authors take them; of another the
    pixel in the middle of each cell. Backbones that round sides down have the nearest pixels.
    """
    if masks.shape[-1] % 2:
        small = masks[:, ::stride, ::stride].bool()
        if tuple(small.shape[-2:]) == tuple(size):
            return small
    return F.interpolate(masks[:, None].float(), tuple(size), mode="nearest-exact")[:, 0] > 0.5


def to_input(mask_logits: Tensor, size: Sequence[int]) -> Tensor:
    """Mask logits (B, N, h, w) at the size of the padded input; corners meet where it is odd."""
    return resize(mask_logits, size, align_corners=size[1] % 2 == 1)
