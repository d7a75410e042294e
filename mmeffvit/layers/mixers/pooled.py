"""Attention to a map of fewer tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import QKVProjection, TokenMixer, to_map
from mmeffvit.registry import MODELS


class PooledAttention(nn.Module):
    """Softmax attention of all tokens to the mean keys and values of the cells of a map.

    Args:
        reduction: Rows and columns of a cell. Cells at the end of an axis that it does not divide
            are smaller.
    """

    def __init__(self, reduction: int):
        super().__init__()
        if reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {reduction}")
        self.reduction = reduction

    def forward(self, q: Tensor, k: Tensor, v: Tensor, size: tuple[int, int]) -> Tensor:
        """Attention over tokens (B, L, h, d) of a map of `size` in row-major order."""
        q, k, v = (t.transpose(1, 2) for t in (q, self._pooled(k, size), self._pooled(v, size)))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    def _pooled(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        if self.reduction == 1:
            return x
        heads = x.shape[2]
        x = x.flatten(2).transpose(1, 2).unflatten(2, size)
        x = F.avg_pool2d(x, self.reduction, ceil_mode=True, count_include_pad=False)
        return x.flatten(2).transpose(1, 2).unflatten(2, (heads, -1))

    def extra_repr(self) -> str:
        return f"reduction={self.reduction}"


@MODELS.register_module()
class PooledMixer(TokenMixer):
    """Softmax attention to the whole map at a lower resolution.

    Keys and values are averaged over cells of r x r tokens (as in PVT, arXiv 2102.12122, section
    3.3, where a convolution makes them): L * L / r^2 weights, never in memory. It is the global
    stream of MAFormer (arXiv 2209.01620) as far as its abstract says what that is.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        reduction: Rows and columns r of a cell.
    """

    def __init__(self, embed_dims: int, num_heads: int, reduction: int = 4):
        super().__init__(embed_dims, num_heads)
        self.qkv = QKVProjection(embed_dims, num_heads)
        self.core = PooledAttention(reduction)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def positions(self, context: MapContext) -> tuple[int, int]:
        return context.size

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v = self.qkv(x)
        return self.proj(to_map(self.core(q, k, v, self.positions(context)), context))
