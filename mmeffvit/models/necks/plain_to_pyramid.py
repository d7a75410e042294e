"""A pyramid from maps of one stride, as plain vision transformers make them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.layers import LayerNorm2d
from mmeffvit.registry import MODELS


def _halvings(in_stride: float, out_stride: float) -> int:
    """How often a map is halved; negative for how often it is doubled."""
    halvings = math.log2(out_stride / in_stride) if min(in_stride, out_stride) > 0 else math.nan
    if not halvings.is_integer():
        raise ValueError(
            f"PlainToPyramid doubles and halves maps: out_strides must be in_stride={in_stride} "
            f"times powers of two, got {out_stride}"
        )
    return int(halvings)


def _resample(dim: int, halvings: int, narrow: bool) -> tuple[nn.Sequential, int]:
    """Transposed convolutions, nothing, or pooling; and the channels that come out."""
    if halvings >= 0:
        # a last row or column that has no partner is kept: sides are rounded up, as in pyramids
        pools = [nn.MaxPool2d(2**halvings, ceil_mode=True)] if halvings else []
        return nn.Sequential(*pools), dim
    layers: list[nn.Module] = []
    for step in range(-halvings):
        if step:
            layers += [LayerNorm2d(dim, eps=1e-6), nn.GELU()]
        out_dim = dim // 2 if narrow else dim
        layers.append(nn.ConvTranspose2d(dim, out_dim, 2, stride=2))
        dim = out_dim
    return nn.Sequential(*layers), dim


@MODELS.register_module()
class PlainToPyramid(BaseModule):
    """Maps of one stride, from a plain vision transformer, to a pyramid.

    Every level is resampled from a map of the backbone: finer ones by 2x2 transposed convolutions
    of stride 2, with a LayerNorm over channels and GELU between two of them, the same stride by
    nothing, coarser ones by max pooling.

    - `in_channels` is a number: all levels are made from **the last map** that comes in, as in
      ViTDet's simple feature pyramid (arXiv 2203.16527, section 3 and appendix A.2).
    - `in_channels` is a sequence: each level has **a map of its own**, earlier blocks for finer
      levels, as segmentors on BEiT have it (arXiv 2106.08254).

    - `concat`: all levels are made from **all maps**, of any strides: brought bilinearly to the
      size of the last one, whose stride is `in_stride`, and joined. Two branches want it.

    With `out_channels` the transposed convolutions halve the channels, and a 1x1 and a 3x3
    convolution, without biases and with a LayerNorm after each, bring every level to
    `out_channels`, as heads on FPN want it. Without, channels stay as they are, as UPerNet wants
    it.

    Args:
        in_channels: Channels of the last map, or of all maps, one for each of `out_strides`, or
            with `concat` one for each map.
        out_channels: Channels of every level, or None to keep those of the maps.
        in_stride: Stride of the maps: the patch size.
        out_strides: Strides of the levels, each a power of two times `in_stride`.
        num_outs: Number of maps that leave, if more than levels: the last one is then sampled at
            every second row and column, again and again, as mmdet's FPN does for its RPN.
        concat: Whether maps are joined.
        init_cfg: Of mmengine.

    Raises:
        ValueError: A stride cannot be reached, or numbers of maps do not fit each other.

    Sides are those of the maps, doubled, or halved and rounded up. They fit an image whose sides
    are multiples of the largest stride, to which toolboxes pad (``pad_size_divisor=32``).
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int | None = None,
        in_stride: float = 16,
        out_strides: Sequence[float] = (4, 8, 16, 32),
        num_outs: int | None = None,
        concat: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.concat = concat
        if concat:
            in_channels = sum(in_channels)
        self.from_last = isinstance(in_channels, int)
        widths = [in_channels] * len(out_strides) if self.from_last else list(in_channels)
        if not widths or len(widths) != len(out_strides):
            raise ValueError(
                "PlainToPyramid needs in_channels as a number, or one for each of "
                f"out_strides={tuple(out_strides)}; got {in_channels}"
            )
        self.num_outs = len(widths) if num_outs is None else num_outs
        if self.num_outs < len(widths):
            raise ValueError(
                f"num_outs={num_outs} is less than the levels of out_strides={tuple(out_strides)}; "
                "leave strides out"
            )
        self.levels = nn.ModuleList()
        for width, stride in zip(widths, out_strides):
            level, dim = _resample(width, _halvings(in_stride, stride), out_channels is not None)
            if out_channels is not None:
                for in_dim, kernel in ((dim, 1), (out_channels, 3)):
                    level.append(
                        nn.Conv2d(in_dim, out_channels, kernel, padding=kernel // 2, bias=False)
                    )
                    level.append(LayerNorm2d(out_channels, eps=1e-6))
            self.levels.append(level)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Resample.

        Args:
            maps: (B, C_i, H, W) of one stride, or with `concat` of any; of several, only the last
                is read if `in_channels` is a number.

        Returns:
            `num_outs` maps, finest first.
        """
        if self.concat:
            size = maps[-1].shape[-2:]
            resized = [F.interpolate(x, size, mode="bilinear") for x in maps[:-1]]
            maps = [torch.cat((*resized, maps[-1]), 1)]
        if self.from_last:
            maps = [maps[-1]] * len(self.levels)
        elif len(maps) != len(self.levels):
            raise ValueError(
                f"PlainToPyramid was made for {len(self.levels)} maps and got {len(maps)}; fit "
                "out_indices of the backbone, or give in_channels as a number to read the last "
                "map alone"
            )
        outs = [level(x) for level, x in zip(self.levels, maps)]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)
