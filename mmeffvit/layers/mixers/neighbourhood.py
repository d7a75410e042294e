"""The token mixer of NAT and DiNAT."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import (
    MapEdges,
    QKVProjection,
    TokenMixer,
    continue_map,
    to_map,
)
from mmeffvit.ops import neighbourhood_attention
from mmeffvit.registry import MODELS


class NeighbourhoodAttention(nn.Module):
    """Attention of each token of a map to the k x k around it, with a bias per relative place.

    Where windows do not fit, the map continues at the bottom and on the right until they do.

    Args:
        num_heads: Heads h.
        kernel_size: Odd number of neighbours k on each axis.
        dilation: Distance between neighbours.
        fit_dilation: On an axis of fewer than k * dilation tokens, cut the dilation to what fits
            before the map is continued. Not from the paper.
        implementation: Of `mmeffvit.ops.neighbourhood_attention`; None lets it choose.

    Raises:
        ValueError: The kernel is even or not positive, or the dilation is not positive.
    """

    def __init__(
        self,
        num_heads: int,
        kernel_size: int = 7,
        dilation: int = 1,
        fit_dilation: bool = False,
        implementation: str | None = None,
    ):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0 or dilation < 1:
            raise ValueError(
                "neighbourhood attention needs an odd kernel_size and a dilation of at least 1, "
                f"got {kernel_size} and {dilation}"
            )
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.fit_dilation = fit_dilation
        self.implementation = implementation
        self.rpb = nn.Parameter(torch.empty(num_heads, *(2 * kernel_size - 1,) * 2))
        nn.init.trunc_normal_(self.rpb, std=0.02)

    def dilations(self, size: tuple[int, int]) -> tuple[int, int]:
        """Dilation of the rows and of the columns of a map."""
        if not self.fit_dilation:
            return self.dilation, self.dilation
        fitting = (torch.sym_max(1, side // self.kernel_size) for side in size)
        return tuple(torch.sym_min(self.dilation, dilation) for dilation in fitting)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, positions: MapEdges) -> Tensor:
        """Attention over tokens (B, L, h, d) of a map in row-major order."""
        q, k, v = (t.unflatten(1, positions.size) for t in (q, k, v))
        dilations = self.dilations(positions.size)
        _, key, value = positions.beyond.view(3, *q.shape[3:])
        least = [self.kernel_size * dilation for dilation in dilations]
        out = neighbourhood_attention(
            q,
            continue_map(k, key, least),
            continue_map(v, value, least),
            self.kernel_size,
            dilations,
            bias=self.rpb,
            implementation=self.implementation,
        )
        return out.flatten(1, 2)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"fit_dilation={self.fit_dilation}"
        )


@MODELS.register_module()
class NeighbourhoodMixer(TokenMixer):
    """Neighbourhood attention (arXiv 2204.07143, section 3; dilated, arXiv 2209.15001, section 3).

    On a map with fewer than k * dilation rows or columns, the authors fill up the input of this
    module with zeros at the bottom and on the right; these places are keys like any other. Here
    they are not projected: their keys and values are the bias of the projection.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        kernel_size: See `NeighbourhoodAttention`.
        dilation: See `NeighbourhoodAttention`.
        fit_dilation: See `NeighbourhoodAttention`.
        implementation: See `NeighbourhoodAttention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        kernel_size: int = 7,
        dilation: int = 1,
        fit_dilation: bool = False,
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads)
        self.qkv = QKVProjection(embed_dims, num_heads)
        self.core = NeighbourhoodAttention(
            num_heads, kernel_size, dilation, fit_dilation, implementation
        )
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def positions(self, context: MapContext) -> MapEdges:
        # what the projection makes of zeros
        return MapEdges(context.size, self.qkv.bias)

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v = self.qkv(x)
        out = self.core(q, k, v, self.positions(context))
        return self.proj(to_map(out, context))
