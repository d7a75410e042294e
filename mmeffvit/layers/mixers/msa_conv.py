"""MSA-Conv as a token mixer."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import TokenMixer
from mmeffvit.layers.msa_conv import MSAConv2d
from mmeffvit.registry import MODELS


@MODELS.register_module()
class MSAConvMixer(TokenMixer):
    """Attention inside the window of a convolution, then that convolution (arXiv 2310.04134).

    `MSAConv2d` between maps of one size. The operator was published alone: the network around it,
    TiC, is not known.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h; 1 is as published.
        kernel_size: Odd size k of window and kernel.
        dilation: Distance between neighbours of the window.
        act: ``'relu'`` as published, so that a residual branch only ever adds; None for none.
        implementation: Of `mmeffvit.ops.neighbourhood_attention`; None lets it choose.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int = 1,
        kernel_size: int = 3,
        dilation: int = 1,
        act: str | None = "relu",
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads)
        self.msa_conv = MSAConv2d(
            embed_dims,
            embed_dims,
            kernel_size,
            padding=kernel_size // 2,
            dilation=dilation,
            num_heads=num_heads,
            act=act,
            implementation=implementation,
        )

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        return self.msa_conv(x, context)
