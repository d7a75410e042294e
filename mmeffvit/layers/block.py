"""The residual block of image networks, put together from its parts."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.drop_path import DropPath
from mmeffvit.layers.norm import LayerNorm2d
from mmeffvit.layers.scale import LayerScale2d


class Block(nn.Module):
    """``x = pos(x)``, ``x + S1 mixer(norm1(x))``, ``x + S2 ffn(norm2(x))``, on (B, C, H, W) maps.

    Args:
        dim: Channels C.
        mixer: Token mixer, (B, C, H, W) and a context to (B, C, H, W).
        ffn: Feed-forward network, (B, C, H, W) to (B, C, H, W).
        norm: Makes a norm of so many channels.
        pos: Conditional position, (B, C, H, W) to (B, C, H, W) with its residual; None for none.
        drop_path: Stochastic-depth rate of both branches.
        layer_scale: Initial factor of both branches (S1, S2); None for no layer scale.
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        ffn: nn.Module,
        *,
        norm: Callable[[int], nn.Module] = LayerNorm2d,
        pos: nn.Module | None = None,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
    ):
        super().__init__()
        self.pos = nn.Identity() if pos is None else pos
        self.norm1 = norm(dim)
        self.mixer = mixer
        self.norm2 = norm(dim)
        self.ffn = ffn
        self.drop_path = DropPath(drop_path)
        self.layer_scale1, self.layer_scale2 = (
            nn.Identity() if layer_scale is None else LayerScale2d(dim, layer_scale)
            for _ in range(2)
        )

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        x = self.pos(x)
        x = x + self.drop_path(self.layer_scale1(self.mixer(self.norm1(x), context)))
        return x + self.drop_path(self.layer_scale2(self.ffn(self.norm2(x))))
