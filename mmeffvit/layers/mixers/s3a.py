"""The token mixer of SSViT."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from mmeffvit.layers.context import MapContext, rotary_2d
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.mixers.base import QKVProjection, TokenMixer, to_map
from mmeffvit.ops import apply_rotary, sparse_scan_attention
from mmeffvit.registry import MODELS


class MapPositions(NamedTuple):
    """Rotary table (H*W, d/2, 2) of a map, and its rows and columns."""

    table: Tensor
    size: tuple[int, int]


class SparseScanAttention(nn.Module):
    """Attention in local windows, then among anchors, or the reverse, of the tokens of a map.

    Args:
        window_size: Window W of `mmeffvit.ops.sparse_scan_attention`.
        reverse: Let the map set the local windows and `window_size` the number of anchors.
        max_kernel: Odd limit for kernels, None for the published sizes. Not from the paper.
        per_axis: Sizes of each axis from its own length. Not from the paper.
        implementation: Of `mmeffvit.ops.neighbourhood_attention`; None lets it choose.

    Raises:
        ValueError: `window_size` is not positive, or `max_kernel` is not a positive odd number.
    """

    def __init__(
        self,
        window_size: int = 7,
        reverse: bool = False,
        max_kernel: int | None = None,
        per_axis: bool = False,
        implementation: str | None = None,
    ):
        super().__init__()
        if window_size < 1:
            raise ValueError(f"window_size must be at least 1, got {window_size}")
        if max_kernel is not None and (max_kernel < 1 or max_kernel % 2 == 0):
            raise ValueError(f"max_kernel must be a positive odd number or None, got {max_kernel}")
        self.window_size = window_size
        self.reverse = reverse
        self.max_kernel = max_kernel
        self.per_axis = per_axis
        self.implementation = implementation

    def forward(self, q: Tensor, k: Tensor, v: Tensor, positions: MapPositions) -> Tensor:
        """Attention over tokens (B, L, h, d) of a map in row-major order."""
        q, k = apply_rotary(q, positions.table), apply_rotary(k, positions.table)
        out = sparse_scan_attention(
            *(t.unflatten(1, positions.size) for t in (q, k, v)),
            self.window_size,
            self.reverse,
            max_kernel=self.max_kernel,
            per_axis=self.per_axis,
            implementation=self.implementation,
        )
        return out.flatten(1, 2)

    def extra_repr(self) -> str:
        return (
            f"window_size={self.window_size}, reverse={self.reverse}, "
            f"max_kernel={self.max_kernel}, per_axis={self.per_axis}"
        )


@MODELS.register_module()
class S3AMixer(TokenMixer):
    """Sparse scan self-attention (arXiv 2405.13335): local windows, then anchors, or the reverse.

    A 5x5 depth-wise convolution of the values is added to what attention makes of them.

    Args:
        embed_dims: Channels C; the head dimension must be a multiple of 4.
        num_heads: Heads h.
        window_size: See `SparseScanAttention`.
        reverse: See `SparseScanAttention`.
        max_kernel: See `SparseScanAttention`.
        per_axis: See `SparseScanAttention`.
        implementation: See `SparseScanAttention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: int = 7,
        reverse: bool = False,
        max_kernel: int | None = None,
        per_axis: bool = False,
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads, multiple=4)
        self.qkv = QKVProjection(embed_dims, num_heads)
        self.core = SparseScanAttention(window_size, reverse, max_kernel, per_axis, implementation)
        self.lepe = DepthwiseConv2d(embed_dims, 5)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def positions(self, context: MapContext) -> MapPositions:
        return MapPositions(rotary_2d(context, self.head_dim), context.size)

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v = self.qkv(x)
        v = v.contiguous()  # one copy serves both its readers
        out = self.core(q, k, v, self.positions(context))
        return self.proj(to_map(out, context) + self.lepe(to_map(v, context)))
