"""A U of plain convolutions, to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.registry import MODELS
from projects.laformer.laformer.network import padded


def _pair(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(after, after, 3, padding=1),
        nn.GELU(),
    )


@MODELS.register_module()
class PlainUNet(BaseModule):
    """Two 3x3 convolutions per level, down and up; returns the input and what it corrects.

    Args:
        embed_dims: Channels of each level; two or more.
        in_channels: Channels of images.
        scale: Enlarge the input bicubically by this factor first.
        init_cfg: Of mmengine.
    """

    def __init__(
        self,
        embed_dims: Sequence[int] = (32, 64, 128),
        in_channels: int = 3,
        scale: int = 1,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        self.scale = scale
        self.encoder = nn.ModuleList(map(_pair, (in_channels, *embed_dims), embed_dims))
        pairs = list(pairwise(embed_dims))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(wide, dim, 2, 2) for dim, wide in pairs)
        self.decoder = nn.ModuleList(_pair(2 * dim, dim) for dim in embed_dims[:-1])
        self.out = nn.Conv2d(embed_dims[0], in_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, scale H, scale W), of any height and width."""
        if self.scale > 1:
            x = F.interpolate(x, scale_factor=self.scale, mode="bicubic")
        given, (height, width) = x, x.shape[-2:]
        x = self.encoder[0](padded(x, 2 ** len(self.ups)))
        skips = []
        for blocks in self.encoder[1:]:
            skips.append(x)
            x = blocks(F.max_pool2d(x, 2))
        for level in reversed(range(len(self.ups))):
            x = self.decoder[level](torch.cat((self.ups[level](x), skips[level]), 1))
        return given + self.out(x)[..., :height, :width]
