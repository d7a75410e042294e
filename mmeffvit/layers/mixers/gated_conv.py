"""A convolution with a gate per channel: DiCo's token mixer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.mixers.base import TokenMixer
from mmeffvit.ops.precision import in_full
from mmeffvit.registry import MODELS


@MODELS.register_module()
class GatedConvMixer(TokenMixer):
    """The convolution module of DiCo (arXiv 2505.11196), also LAformer's channel attention.

    1x1 convolution, depth-wise convolution, GELU; then each channel is multiplied by the sigmoid of
    a linear layer of the means over the whole map, and a 1x1 convolution is the way out. Cost grows
    linearly with the area.

    Args:
        embed_dims: Channels C.
        num_heads: Heads, which this mixer does not have: any number that divides C.
        kernel_size: Odd size of the depth-wise kernel.
    """

    def __init__(self, embed_dims: int, num_heads: int = 1, kernel_size: int = 3):
        super().__init__(embed_dims, num_heads)
        self.proj_in = nn.Conv2d(embed_dims, embed_dims, 1)
        self.dwconv = DepthwiseConv2d(embed_dims, kernel_size)
        self.gate = nn.Conv2d(embed_dims, embed_dims, 1)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        x = F.gelu(self.dwconv(self.proj_in(x)))
        # a sum over a large map is beyond float16
        mean = in_full(x).mean((2, 3), keepdim=True)
        return self.proj(x * self.gate(mean.to(x.dtype)).sigmoid())
