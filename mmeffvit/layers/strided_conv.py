"""Convolution whose kernel is several times as large as its stride."""

from __future__ import annotations

from torch import Tensor, nn

from mmeffvit.ops.strided_conv import strided_conv2d


class StridedConv2d(nn.Conv2d):
    """`Conv2d` of square kernels and one stride, by `mmeffvit.ops.strided_conv2d`.

    Args:
        in_dim: Channels of the input.
        dim: Channels of the output.
        kernel_size: Side of the kernels; a half of what they have beyond the stride is padding.
        stride: Of rows and of columns.
    """

    def __init__(self, in_dim: int, dim: int, kernel_size: int, stride: int):
        super().__init__(in_dim, dim, kernel_size, stride, padding=(kernel_size - stride) // 2)

    def forward(self, x: Tensor) -> Tensor:
        return strided_conv2d(x, self.weight, self.bias, self.stride[0], self.padding[0])
