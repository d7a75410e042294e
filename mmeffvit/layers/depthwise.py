"""Depth-wise convolution as a module."""

from __future__ import annotations

from torch import Tensor, nn

from mmeffvit.ops import depthwise_conv2d


class DepthwiseConv2d(nn.Conv2d):
    """``conv(x)``, or ``x + conv(x)``, of a kernel per channel: (B, C, H, W) -> (B, C, H, W).

    Parameters and results are those of ``nn.Conv2d(dim, dim, k, padding=k // 2, groups=dim)``.

    Args:
        dim: Channels C.
        kernel_size: Odd size k of the kernel, in pixels.
        residual: Add the input.
    """

    def __init__(self, dim: int, kernel_size: int = 3, residual: bool = False):
        super().__init__(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return depthwise_conv2d(x, self.weight, self.bias, residual=self.residual)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, residual={self.residual}"
