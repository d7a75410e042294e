"""The token mixer of ResFormer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.mixers.base import MapEdges, QKVProjection, TokenMixer, to_map
from mmeffvit.layers.mixers.softmax import SoftmaxAttention
from mmeffvit.ops import depthwise_conv2d
from mmeffvit.registry import MODELS


class HeadwiseConv2d(DepthwiseConv2d):
    """A depth-wise convolution whose kernels, one for each channel of a head, all heads share.

    It starts as zero.

    Args:
        head_dim: Channels d of a head.
        num_heads: Heads h.
        kernel_size: Odd size k of the kernel.
    """

    def __init__(self, head_dim: int, num_heads: int, kernel_size: int = 3):
        super().__init__(head_dim, kernel_size)
        self.num_heads = num_heads
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h*d, H, W) to (B, h*d, H, W)."""
        # repeated, it stays one convolution over all channels
        weight = self.weight.repeat(self.num_heads, 1, 1, 1)
        return depthwise_conv2d(x, weight, self.bias.repeat(self.num_heads))


@MODELS.register_module()
class SharedLePEMixer(TokenMixer):
    """Self-attention, and a convolution of the values that heads share (arXiv 2212.00776, 3.2).

    The map may come as a row of tokens with others in front, such as a class token; the size of the
    context is that of the map. The others take part in attention and not in the convolution.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        kernel_size: Odd size k of the kernel.
        implementation: Of `mmeffvit.ops.map_window_attention`; None lets it choose.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        kernel_size: int = 3,
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads)
        self.qkv = QKVProjection(embed_dims, num_heads)
        self.core = SoftmaxAttention(implementation=implementation)
        self.lepe = HeadwiseConv2d(self.head_dim, num_heads, kernel_size)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def positions(self, context: MapContext) -> MapEdges:
        return MapEdges(context.size)

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v = self.qkv(x)
        rows, columns = x.shape[2:]
        extra = rows * columns - context.num_tokens
        if not extra:
            out = self.core(q, k, v, self.positions(context))
            return self.proj(to_map(out, context) + self.lepe(to_map(v, context)))
        out = self.core(q, k, v, MapEdges((rows, columns))).flatten(2)
        local = self.lepe(to_map(v[:, extra:], context)).flatten(2).transpose(1, 2)
        out = torch.cat((out[:, :extra], out[:, extra:] + local), 1)
        return self.proj(out.transpose(1, 2).unflatten(2, (rows, columns)))
