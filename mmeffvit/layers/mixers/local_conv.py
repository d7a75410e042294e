"""The convolutional token mixer of UniFormer's first stages."""

from __future__ import annotations

from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.mixers.base import TokenMixer
from mmeffvit.registry import MODELS


@MODELS.register_module()
class LocalConvMixer(TokenMixer):
    """Attention whose weights are learnt, per channel and relative place (arXiv 2201.09450).

    What its section on local MHRA describes: values by a 1x1 convolution, a depth-wise k x k
    convolution in the place of attention, a 1x1 convolution; nothing between them. Beyond the map
    values are zero.

    Args:
        embed_dims: Channels C.
        num_heads: Every channel is a head of its own, whatever this says; other mixers need it.
        kernel_size: Odd size k of the neighbourhood, in tokens.

    Raises:
        ValueError: The kernel is even or not positive.
    """

    def __init__(self, embed_dims: int, num_heads: int = 1, kernel_size: int = 5):
        # only so that tools which draw heads find one
        super().__init__(embed_dims, 1)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, got {kernel_size}")
        self.value = nn.Conv2d(embed_dims, embed_dims, 1)
        self.affinity = DepthwiseConv2d(embed_dims, kernel_size)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        return self.proj(self.affinity(self.value(x)))
