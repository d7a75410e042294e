"""Maps of a pyramid at the strides that a head was written for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mmeffvit.registry import MODELS


@MODELS.register_module()
class ResizeToStrides(BaseModule):
    """Interpolate each map of a pyramid to another stride; channels stay, nothing is learned.

    Heads of semantic segmentation often expect a dilated backbone, whose last maps have stride 8
    instead of 16 and 32. This neck gives them the maps of an undilated pyramid at that size. Where
    a head wants maps that are coarser than any of the pyramid, they are made of its last one.

    Args:
        in_strides: Strides of the maps that come in, such as ``(4, 8, 16, 32)``.
        out_strides: Strides that they leave with, such as ``(4, 8, 8, 8)``. Further ones, such as
            64 after 32, are strides of maps that are made of the last one.
        contiguous: Return maps in PyTorch's default memory format, instead of channels last as our
            backbones make them; heads that ``view`` their outputs (CenterNet's, DMNet's) need it.
        init_cfg: Of mmengine.

    Raises:
        ValueError: There is no positive stride for each map.
    """

    def __init__(
        self,
        in_strides: Sequence[int],
        out_strides: Sequence[int],
        contiguous: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if not 0 < len(in_strides) <= len(out_strides) or min(*in_strides, *out_strides) < 1:
            raise ValueError(
                "ResizeToStrides needs as many out_strides as in_strides, or more, all positive; "
                f"got in_strides={in_strides} and out_strides={out_strides}"
            )
        self.in_strides = tuple(in_strides)
        self.out_strides = tuple(out_strides)
        self.contiguous = contiguous

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Resize bilinearly.

        Args:
            maps: (B, C_i, H_i, W_i), one for each of `in_strides`.

        Returns:
            (B, C_i, H, W), one for each of `out_strides`; maps of equal stride have equal sizes.
        """
        if len(maps) != len(self.in_strides):
            raise ValueError(
                f"ResizeToStrides got {len(maps)} maps for in_strides={self.in_strides}"
            )
        # the finest map knows the image's size best: the others were rounded up to whole cells
        finest = min(range(len(maps)), key=self.in_strides.__getitem__)
        sides = [self.in_strides[finest] * side for side in maps[finest].shape[-2:]]
        resized = []
        added = len(self.out_strides) - len(maps)
        maps = (*maps, *(maps[-1],) * added)
        in_strides = (*self.in_strides, *(self.in_strides[-1],) * added)
        for x, old, new in zip(maps, in_strides, self.out_strides, strict=True):
            if old != new:
                size = [math.ceil(side / new) for side in sides]
                x = F.interpolate(x, size, mode="bilinear", align_corners=False)
            resized.append(x.contiguous() if self.contiguous else x)
        return tuple(resized)
