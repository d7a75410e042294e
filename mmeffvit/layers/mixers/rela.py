"""Linear attention whose rank a convolution raises: LAformer's token mixer."""

from __future__ import annotations

from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.mixers.base import QKVProjection, TokenMixer, to_map
from mmeffvit.ops import linear_attention
from mmeffvit.registry import MODELS


class LinearAttention(nn.Module):
    """Linear attention of tokens, whatever they are tokens of.

    Args:
        implementation: Of `mmeffvit.ops.linear_attention`; None lets it choose.
    """

    def __init__(self, implementation: str | None = None):
        super().__init__()
        self.implementation = implementation

    def forward(self, q: Tensor, k: Tensor, v: Tensor, positions: None = None) -> Tensor:
        """Attention over tokens (B, L, h, d), which knows no places."""
        return linear_attention(q, k, v, implementation=self.implementation)


@MODELS.register_module()
class RELAMixer(TokenMixer):
    """Rank-enhanced linear attention (arXiv 2505.16157): a 5x5 convolution of the values is added.

    The attention alone gives each channel of a head a map of rank d; the depth-wise convolution is
    outside of that space, and is the only place where positions count. The paper's abstract says no
    more than this; size and place of the convolution are those of the same group's later networks.
    Cost grows linearly with the area.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        implementation: See `LinearAttention`.
    """

    def __init__(self, embed_dims: int, num_heads: int, implementation: str | None = None):
        super().__init__(embed_dims, num_heads)
        self.qkv = QKVProjection(embed_dims, num_heads)
        self.core = LinearAttention(implementation)
        self.lepe = DepthwiseConv2d(embed_dims, 5)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def positions(self, context: MapContext) -> None:
        return None

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v = self.qkv(x)
        out = self.core(q, k, v, self.positions(context))
        return self.proj(to_map(out, context) + self.lepe(to_map(v, context)))
