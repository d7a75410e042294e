"""Convolutional stems and down-sampling, with batch norm or with layer norm."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from mmeffvit.layers.norm import LayerNorm2d


class ConvStem(nn.Sequential):
    """3x3 convolutions, each with batch norm, GELU between: (B, 3, H, W) -> (B, C, ~H/4, ~W/4).

    Args:
        in_channels: Channels of the input.
        widths: Output channels of each convolution.
        strides: Stride of each convolution. A side of n pixels becomes ceil(n / 2) at a stride of
            2.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], strides: Sequence[int]):
        layers: list[nn.Module] = []
        for width, stride in zip(widths, strides, strict=True):
            if layers:
                layers.append(nn.GELU())
            layers += [
                nn.Conv2d(in_channels, width, 3, stride=stride, padding=1),
                nn.BatchNorm2d(width),
            ]
            in_channels = width
        super().__init__(*layers)


class ConvDownsample(nn.Module):
    """3x3 convolution of stride 2 and batch norm: (B, C, H, W) -> (B, C', ceil(H/2), ceil(W/2))."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def conv_norm(in_dim: int, dim: int, kernel_size: int, stride: int, padding: int) -> nn.Sequential:
    """A convolution, ``conv``, and a layer norm over channels with an eps of 1e-5, ``norm``."""
    conv = nn.Conv2d(in_dim, dim, kernel_size, stride=stride, padding=padding)
    return nn.Sequential(OrderedDict(conv=conv, norm=LayerNorm2d(dim, eps=1e-5)))


def conv_patches(in_channels: int, dim: int, patch: int) -> nn.Sequential:
    """Three convolutions that cut an image into patches of 12 or 16 pixels (CrossViT's dagger)."""
    stride, padding, last_stride = {12: (3, 0, 1), 16: (2, 1, 2)}[patch]
    return nn.Sequential(
        nn.Conv2d(in_channels, dim // 4, 7, stride=4, padding=3),
        nn.ReLU(),
        nn.Conv2d(dim // 4, dim // 2, 3, stride=stride, padding=padding),
        nn.ReLU(),
        nn.Conv2d(dim // 2, dim, 3, stride=last_stride, padding=1),
    )
