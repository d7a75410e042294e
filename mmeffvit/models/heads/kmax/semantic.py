"""Auxiliary semantic heads of kMaX-DeepLab, on maps of the backbone; for training alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmeffvit.models.heads.kmax.blocks import ConvNorm, init_normal
from mmeffvit.models.heads.kmax.pixel_decoder import resize


def _classes(dim: int, num_outputs: int) -> nn.Conv2d:
    conv = nn.Conv2d(dim, num_outputs, 1)
    init_normal(conv.weight, 0.01)
    nn.init.zeros_(conv.bias)
    return conv


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: (B, C, H, W) to (B, dim, H, W).

    Args:
        in_dim: C.
        dim: Channels of each branch, and of the result.
    """

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.branches = nn.ModuleList(
            [ConvNorm(in_dim, dim), *(ConvNorm(in_dim, dim, 3, dilation=d) for d in (6, 12, 18))]
        )
        self.pool = ConvNorm(in_dim, dim)
        self.proj = ConvNorm(5 * dim, dim)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        maps = [*(branch(x) for branch in self.branches), pooled]
        return self.dropout(self.proj(torch.cat(maps, 1)))


class SemanticDecoder(nn.Module):
    """K + 1 classes at the stride of the fourth coarsest map: of COCO and ADE20K.

    Args:
        in_channels: Of the coarsest, the third and the fourth coarsest map.
        num_classes: K.
        dim: Channels inside.
        skip_dims: Channels that the two finer maps are reduced to.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        dim: int = 256,
        skip_dims: Sequence[int] = (64, 32),
    ):
        super().__init__()
        self.aspp = Pyramid(in_channels[0], dim)
        self.skips = nn.ModuleList(ConvNorm(c, d) for c, d in zip(in_channels[1:], skip_dims))
        self.fusions = nn.ModuleList(
            nn.Sequential(ConvNorm(dim + d, dim + d, 5, depthwise=True), ConvNorm(dim + d, dim))
            for d in skip_dims
        )
        self.block = nn.Sequential(ConvNorm(dim, dim, 5, depthwise=True), ConvNorm(dim, dim))
        self.classes = _classes(dim, num_classes + 1)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """The three maps to logits (B, K + 1, H, W)."""
        x = self.aspp(feats[0])
        align_corners = x.shape[-1] % 2 == 1
        for feat, skip, fusion in zip(feats[1:], self.skips, self.fusions):
            x = resize(x, feat.shape[-2:], align_corners)
            x = fusion(torch.cat((x, skip(feat)), 1))
        return self.classes(self.block(x))


class LightSemanticHead(nn.Module):
    """K classes at the stride of the coarsest map: of Cityscapes.

    Args:
        in_channels: Of the coarsest map, and of others that are not looked at.
        num_classes: K.
        dim: Channels inside.
    """

    def __init__(self, in_channels: Sequence[int], num_classes: int, dim: int = 256):
        super().__init__()
        self.block = nn.Sequential(
            ConvNorm(in_channels[0], in_channels[0], 5, depthwise=True),
            ConvNorm(in_channels[0], dim),
        )
        self.classes = _classes(dim, num_classes)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """The maps to logits (B, K, H, W)."""
        return self.classes(self.block(feats[0]))


#: name in configs -> class
SEMANTIC_HEADS = {"decoder": SemanticDecoder, "light": LightSemanticHead}
