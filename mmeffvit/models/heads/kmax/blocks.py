"""What all parts of kMaX-DeepLab are made of: convolutions with batch norm, and their weights."""

from __future__ import annotations

import math

from torch import Tensor, nn

#: of every batch norm, as in TensorFlow
NORM = {"eps": 1e-3, "momentum": 0.01}


def init_normal(weight: Tensor, std: float) -> None:
    """A normal distribution that is cut at two standard deviations, then scaled."""
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


class ConvNorm(nn.Module):
    """Convolution, batch norm, and GELU if asked for; (B, C, H, W), or (B, C, L) with ``ndim=1``.

    Args:
        in_dim: Input channels.
        dim: Output channels.
        kernel_size: Side of the kernel; sizes of maps stay.
        ndim: Axes of a map, 1 or 2.
        act: Whether GELU follows.
        bias: Of the convolution.
        depthwise: One filter per channel.
        dilation: Of the kernel.
        std: Of the weights; that of He for `in_dim` inputs if None.
        zero_init: Start with a norm of weight 0: a residual branch that adds nothing.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        kernel_size: int = 1,
        *,
        ndim: int = 2,
        act: bool = True,
        bias: bool = False,
        depthwise: bool = False,
        dilation: int = 1,
        std: float | None = None,
        zero_init: bool = False,
    ):
        super().__init__()
        conv, norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d))[ndim - 1]
        self.conv = conv(
            in_dim,
            dim,
            kernel_size,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=in_dim if depthwise else 1,
            bias=bias,
        )
        self.norm = norm(dim, **NORM)
        self.act = nn.GELU() if act else nn.Identity()
        if depthwise:
            nn.init.xavier_uniform_(self.conv.weight)
        else:
            # the area of the kernel does not count, as in the authors' code
            init_normal(self.conv.weight, math.sqrt(2 / in_dim) if std is None else std)
        if bias:
            nn.init.zeros_(self.conv.bias)
        if zero_init:
            nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))
