"""Plain softmax attention, over the map or inside windows: the token mixer of vision transformers.

Also of tokens that do not lie in a map, if there are no windows.
"""

from __future__ import annotations

from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import QKVProjection, TokenMixer, to_map
from mmeffvit.ops import map_window_attention
from mmeffvit.registry import MODELS


class SoftmaxAttention(nn.Module):
    """Softmax attention among all tokens of a map, or among those of a window.

    Args:
        window_size: Rows and columns of a window; None for the whole map. Where windows do not
            divide the map, keys and values are zero below and to the right of it, and take part.
        implementation: Of `mmeffvit.ops.map_window_attention`; None lets it choose.
    """

    def __init__(self, window_size: int | None = None, implementation: str | None = None):
        super().__init__()
        if window_size is not None and window_size < 1:
            raise ValueError(f"window_size must be at least 1 or None, got {window_size}")
        self.window_size = window_size
        self.implementation = implementation

    def forward(self, q: Tensor, k: Tensor, v: Tensor, size: tuple[int, int]) -> Tensor:
        """Attention over tokens (B, L, h, d) of a map of this size, in row-major order."""
        out = map_window_attention(
            *(t.unflatten(1, size) for t in (q, k, v)),
            (self.window_size, self.window_size),
            "end",
            implementation=self.implementation,
        )
        return out.flatten(1, 2)

    def extra_repr(self) -> str:
        return f"window_size={self.window_size}"


@MODELS.register_module()
class SoftmaxMixer(TokenMixer):
    """Multi-head self-attention (ViT, arXiv 2010.11929), of the map or inside windows.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        window_size: See `SoftmaxAttention`.
        implementation: See `SoftmaxAttention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: int | None = None,
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads)
        self.qkv = QKVProjection(embed_dims, num_heads)
        self.core = SoftmaxAttention(window_size, implementation)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def positions(self, context: MapContext) -> tuple[int, int]:
        return context.size

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v = self.qkv(x)
        return self.proj(to_map(self.core(q, k, v, self.positions(context)), context))
