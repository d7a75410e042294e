"""Self-attention inside the window of a convolution (MSA-Conv, arXiv 2310.04134)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import QKVProjection, to_map
from mmeffvit.ops import neighbourhood_attention


class WindowAttention(nn.Module):
    """Attention of each token to the k x k around it; places beyond the map are keys of zeros.

    Args:
        kernel_size: Odd number of neighbours on both axes, or (rows, columns).
        dilation: Distance between neighbours.
        implementation: Of `mmeffvit.ops.neighbourhood_attention`; None lets it choose.
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int] = 3,
        dilation: int = 1,
        implementation: str | None = None,
    ):
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.implementation = implementation

    def forward(self, q: Tensor, k: Tensor, v: Tensor, size: tuple[int, int]) -> Tensor:
        """Attention over tokens (B, L, h, d) of a map of `size` in row-major order."""
        out = neighbourhood_attention(
            *(t.unflatten(1, size) for t in (q, k, v)),
            self.kernel_size,
            self.dilation,
            border="zeros",
            implementation=self.implementation,
        )
        return out.flatten(1, 2)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}"


class MSAConv2d(nn.Module):
    """Attention inside a window, the input added, then a convolution and ReLU.

    ``relu(conv(x + attention(x)))``, any height and width; there are no positions but those of the
    convolution. As published it has one head, with the scale of all channels. With a stride of 2 it
    can take the place of `ConvDownsample`. The authors drop some of the weights of attention while
    training; here they are never held, and none is dropped.

    Args:
        in_channels: Channels C.
        out_channels: Channels of the result.
        kernel_size: Odd size of the window and of the kernel, or (rows, columns).
        stride: Of the convolution; attention is dense.
        padding: Of the convolution.
        dilation: Of the window; the kernel has none.
        bias: Whether the convolution has one.
        num_heads: 1 as published; more are ours.
        act: ``'relu'``, or None for none, which is ours.
        implementation: See `WindowAttention`.

    Raises:
        ValueError: The kernel is even or not positive, or `act` is another.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int = 1,
        padding: int | Sequence[int] = 1,
        dilation: int = 1,
        bias: bool = False,
        num_heads: int = 1,
        act: str | None = "relu",
        implementation: str | None = None,
    ):
        super().__init__()
        sides = [kernel_size] if isinstance(kernel_size, int) else list(kernel_size)
        if any(side < 1 or side % 2 == 0 for side in sides) or act not in ("relu", None):
            raise ValueError(
                "MSA-Conv needs an odd kernel_size and act 'relu' or None, got "
                f"{kernel_size} and {act!r}"
            )
        self.qkv = QKVProjection(in_channels, num_heads)
        self.core = WindowAttention(kernel_size, dilation, implementation)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=bias
        )
        self.act = act

    def forward(self, x: Tensor, context: MapContext | None = None) -> Tensor:
        """(B, C, H, W) to (B, C', H', W') as of a convolution."""
        context = context or MapContext.of(x)
        attended = to_map(self.core(*self.qkv(x), context.size), context)
        out = self.conv(x + attended.to(x.dtype))
        return F.relu(out) if self.act else out
