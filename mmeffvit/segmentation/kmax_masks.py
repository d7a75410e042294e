"""What kMaX-DeepLab's heads for mmdet and mmseg share: true masks at the size of the logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from mmeffvit.models.heads.kmax.pixel_decoder import resize


def at_stride(masks: Tensor, stride: int, size: Sequence[int]) -> Tensor:
    """Masks (G, H, W) at every `stride`-th pixel, bool, of a size (h, w).

    The first pixel is kept, as of the maps of a backbone whose sides are rounded up; where those of
    another are not, the nearest pixels are taken.
    """
    small = masks[:, ::stride, ::stride].bool()
    if tuple(small.shape[-2:]) == tuple(size):
        return small
    return F.interpolate(masks[:, None].float(), tuple(size), mode="nearest")[:, 0] > 0.5


def to_input(mask_logits: Tensor, size: Sequence[int]) -> Tensor:
    """Mask logits (B, N, h, w) at the size of the padded input; corners meet where it is odd."""
    return resize(mask_logits, size, align_corners=size[1] % 2 == 1)
