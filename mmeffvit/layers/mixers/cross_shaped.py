"""The token mixer of CSWin."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.mixers.base import QKVProjection, TokenMixer, to_map
from mmeffvit.ops.map_window_attention import (
    Window,
    from_windows,
    map_window_attention,
    to_windows,
)
from mmeffvit.registry import MODELS


class CrossShapedAttention(nn.Module):
    """Attention inside windows of a map, with other windows for each equal share of the heads.

    Args:
        windows: Rows and columns of the windows of each share; None is the whole axis.
        implementation: Of `mmeffvit.ops.map_window_attention`; None lets it choose.
    """

    def __init__(self, windows: tuple[Window, ...], implementation: str | None = None):
        super().__init__()
        self.windows = windows
        self.implementation = implementation

    def forward(self, q: Tensor, k: Tensor, v: Tensor, size: tuple[int, int]) -> Tensor:
        """Attention over tokens (B, L, h, d) of a map of `size` in row-major order."""
        maps = (t.unflatten(1, size).chunk(len(self.windows), dim=3) for t in (q, k, v))
        outs = [
            map_window_attention(*share, window, implementation=self.implementation)
            for *share, window in zip(*maps, self.windows)
        ]
        return torch.cat(outs, dim=3).flatten(1, 2)

    def extra_repr(self) -> str:
        return f"windows={self.windows}"


class WindowLePE(DepthwiseConv2d):
    """Depth-wise 3x3 convolution that sees zeros beyond the window of a pixel, not its neighbours.

    Args:
        dim: Channels C.
        window: Rows and columns of the windows that a (B, C, H, W) map is cut into; None is the
            whole axis.
    """

    def __init__(self, dim: int, window: Window):
        super().__init__(dim, 3)
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        windows = to_windows(x.permute(0, 2, 3, 1), self.window).permute(0, 3, 1, 2)
        out = super().forward(windows).permute(0, 2, 3, 1)
        return from_windows(out, x.shape[-2:], self.window).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, window={self.window}"


@MODELS.register_module()
class CrossShapedMixer(TokenMixer):
    """Cross-shaped window attention (arXiv 2107.00652, section 3): vertical, horizontal stripes.

    The first half of the heads attends inside stripes of the map's height, the second half inside
    stripes of its width. A 3x3 depth-wise convolution of the values, inside the same stripes, is
    added to what attention makes of them: the only place where positions count. A map that stripes
    do not divide is filled up with zeros, evenly on both sides, after the projection; they take
    their share of the attention (`mmeffvit.ops.map_window_attention`).

    Args:
        embed_dims: Channels C.
        num_heads: Heads h; even, unless there are no stripes.
        stripe_width: Tokens across a stripe; None for one window, the whole map, and all heads.
        implementation: Of `mmeffvit.ops.map_window_attention`; None lets it choose.

    Raises:
        ValueError: Channels or heads do not divide so, or the width is not positive.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        stripe_width: int | None = None,
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads)
        if stripe_width is None:
            windows = ((None, None),)
        elif stripe_width < 1:
            raise ValueError(f"stripe_width must be at least 1, or None, got {stripe_width}")
        elif num_heads % 2:
            raise ValueError(
                "half of the heads attend in vertical stripes and half in horizontal ones: "
                f"num_heads must be even, got {num_heads}; stripe_width=None has no stripes"
            )
        else:
            windows = ((None, stripe_width), (stripe_width, None))
        self.qkv = QKVProjection(embed_dims, num_heads)
        self.core = CrossShapedAttention(windows, implementation)
        self.lepe = nn.ModuleList(WindowLePE(embed_dims // len(windows), w) for w in windows)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def positions(self, context: MapContext) -> tuple[int, int]:
        return context.size

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v = self.qkv(x)
        out = self.core(q, k, v, self.positions(context))
        shares = to_map(v, context).chunk(len(self.lepe), dim=1)
        enhanced = torch.cat([lepe(share) for lepe, share in zip(self.lepe, shares)], dim=1)
        return self.proj(to_map(out, context) + enhanced)
