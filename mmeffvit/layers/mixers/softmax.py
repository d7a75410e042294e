"""Plain softmax attention, over the map or inside windows: the token mixer of vision transformers.

Also of tokens that do not lie in a map, if there are no windows.
"""

from __future__ import annotations

from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import (
    MapEdges,
    QKVProjection,
    TokenMixer,
    continue_map,
    to_map,
)
from mmeffvit.ops import map_window_attention
from mmeffvit.registry import MODELS


class SoftmaxAttention(nn.Module):
    """Softmax attention among all tokens of a map, or among those of a window.

    Args:
        window_size: Rows and columns of a window; None for the whole map. Where windows do not
            divide the map, it is continued below and to the right by what `MapEdges` says; the
            keys there take part.
        implementation: Of `mmeffvit.ops.map_window_attention`; None lets it choose.
    """

    def __init__(self, window_size: int | None = None, implementation: str | None = None):
        super().__init__()
        if window_size is not None and window_size < 1:
            raise ValueError(f"window_size must be at least 1 or None, got {window_size}")
        self.window_size = window_size
        self.implementation = implementation

    def forward(self, q: Tensor, k: Tensor, v: Tensor, positions: MapEdges) -> Tensor:
        """Attention over tokens (B, L, h, d) of a map in row-major order."""
        height, width = positions.size
        q, k, v = (t.unflatten(1, (height, width)) for t in (q, k, v))
        window = self.window_size
        if positions.beyond is not None and window is not None:
            whole = [(side + window - 1) // window * window for side in positions.size]
            edges = positions.beyond.view(3, *q.shape[3:])
            q, k, v = (continue_map(t, edge, whole) for t, edge in zip((q, k, v), edges))
        out = map_window_attention(
            q, k, v, (window, window), "end", implementation=self.implementation
        )
        return out[:, :height, :width].flatten(1, 2)

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
        project_edges: What stands where windows reach beyond the map: False for zeros as queries,
            keys and values; True for what the projection makes of zeros, its bias, as in networks
            that fill up the map before they project it (UniFormer). Nothing is projected there.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: int | None = None,
        implementation: str | None = None,
        project_edges: bool = False,
    ):
        super().__init__(embed_dims, num_heads)
        self.qkv = QKVProjection(embed_dims, num_heads)
        self.core = SoftmaxAttention(window_size, implementation)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)
        self.project_edges = project_edges

    def positions(self, context: MapContext) -> MapEdges:
        return MapEdges(context.size, self.qkv.bias if self.project_edges else None)

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v = self.qkv(x)
        return self.proj(to_map(self.core(q, k, v, self.positions(context)), context))
