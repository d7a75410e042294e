"""Multi-scale deformable attention as a module, and as a token mixer of one map.

Deformable DETR, arXiv 2010.04159, section 4.1. B batch, Q queries, h heads, d head dim, V levels, P
points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmeffvit.layers.context import Context, MapContext
from mmeffvit.layers.mixers.base import Mixer, TokenMixer
from mmeffvit.ops import deformable_attention
from mmeffvit.ops.precision import in_full
from mmeffvit.registry import MODELS


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H W, C), a view of maps with channels last in memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def pixel_centres(context: Context, x: Tensor) -> Tensor:
    """(H W, 2) float32: x, y of the centre of every pixel, in units of the size of the map."""
    height, width = x.shape[-2:]

    def make() -> Tensor:
        rows, columns = (
            (torch.arange(n, device=x.device, dtype=torch.float32) + 0.5) / n
            for n in (height, width)
        )
        return torch.cartesian_prod(rows, columns).flip(-1)

    return _of_size(context, ("pixel_centres", height, width), make)


def _of_size(context: Context, key: tuple, make: Callable[[], Tensor]) -> Tensor:
    """A table that the context keeps by sizes, which are no numbers while a graph is traced."""
    return make() if torch.compiler.is_compiling() else context.structure(key, make)


class Levels(NamedTuple):
    """Maps that are read.

    Attributes:
        values: (B, S, h, d) of all levels, in float32 at least.
        shapes: Rows and columns of every level.
        sizes: (V, 1, 2) columns and rows of every level, where the maps are.
    """

    values: Tensor
    shapes: tuple[tuple[int, int], ...]
    sizes: Tensor


class DeformableAttention(Mixer):
    """Every pixel reads a few points near its own place, on every level, and weighs them.

    Where it reads, in pixels of the level around its own place, and the weights are linear in the
    pixel itself: the cost is linear in the area.

    Args:
        embed_dims: Channels C of queries and sources.
        num_heads: Heads h.
        num_levels: Levels V of the sources.
        num_points: Points P of a head on a level.
        value_ratio: Channels of the values over C.
        implementation: Of `mmeffvit.ops.deformable_attention`; None lets it choose.

    Raises:
        ValueError: Channels do not divide into heads.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_levels: int = 1,
        num_points: int = 4,
        value_ratio: float = 1.0,
        implementation: str | None = None,
    ):
        value_dims = int(embed_dims * value_ratio)
        super().__init__(value_dims, num_heads)
        self.num_levels = num_levels
        self.num_points = num_points
        self.implementation = implementation
        # offsets (h, V, P, 2), x before y, then logits (h, V, P)
        self.sampling = nn.Conv2d(embed_dims, 3 * num_heads * num_levels * num_points, 1)
        self.value_proj = nn.Conv2d(embed_dims, value_dims, 1)
        self.output_proj = nn.Conv2d(value_dims, embed_dims, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Head i reads in the direction 2 pi i / h, point p at p + 1 pixels, all with one weight.

        The directions lie on the edge of a square. The other projections are Xavier's.
        """
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack((angles.cos(), angles.sin()), -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1)[:, None]
        offsets = (directions[:, None, None] * steps).expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            self.sampling.weight.zero_()
            self.sampling.bias.zero_()
            self.sampling.bias[: offsets.numel()] = offsets.flatten()
            for projection in (self.value_proj, self.output_proj):
                nn.init.xavier_uniform_(projection.weight)
                nn.init.zeros_(projection.bias)

    def points(self, query: Tensor, centres: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Where queries read, and with which weights.

        Args:
            query: (B, C, H, W), with Q = H W.
            centres: (Q, 2) x, y of the queries, in units of the map.
            sizes: (V, 1, 2) columns and rows of the levels.

        Returns:
            Locations (B, Q, h, V, P, 2) in units of the levels, and weights (B, Q, h, V, P).
        """
        shape = (self.num_heads, self.num_levels, self.num_points)
        count = math.prod(shape)
        offsets, logits = to_tokens(self.sampling(query)).split((2 * count, count), dim=-1)
        locations = (
            centres[:, None, None, None] + in_full(offsets).unflatten(-1, (*shape, 2)) / sizes
        )
        weights = logits.unflatten(-1, (shape[0], -1)).softmax(-1)
        return locations, weights.unflatten(-1, shape[1:])

    def levels(self, sources: Sequence[Tensor], context: Context) -> Levels:
        """What queries read, from a (B, C, H_v, W_v) map for each level."""
        shapes = tuple(tuple(source.shape[-2:]) for source in sources)
        sizes = _of_size(
            context,
            ("level_sizes", shapes),
            lambda: (
                torch.tensor(shapes, dtype=torch.float32).flip(-1)[:, None].to(sources[0].device)
            ),
        )
        values = torch.cat([to_tokens(self.value_proj(source)) for source in sources], 1)
        # once, for all maps of queries
        return Levels(in_full(values).unflatten(-1, (self.num_heads, -1)), shapes, sizes)

    def attend(self, query: Tensor, centres: Tensor, levels: Levels) -> Tensor:
        """What the queries of one map read, (B, C, H, W); arguments as of the other methods."""
        locations, weights = self.points(query, centres, levels.sizes)
        out = deformable_attention(
            levels.values, levels.shapes, locations, weights, implementation=self.implementation
        )
        out = out.flatten(2).unflatten(1, query.shape[-2:])
        return self.output_proj(out.to(query.dtype).permute(0, 3, 1, 2))

    def forward(
        self, queries: Sequence[Tensor], sources: Sequence[Tensor], context: Context
    ) -> list[Tensor]:
        """Read.

        Args:
            queries: (B, C, H, W) maps.
            sources: (B, C, H_v, W_v), one map for each of the levels.
            context: Shared tables.

        Returns:
            (B, C, H, W) for each map of `queries`.
        """
        levels = self.levels(sources, context)
        return [self.attend(query, pixel_centres(context, query), levels) for query in queries]


@MODELS.register_module()
class DeformableMixer(TokenMixer):
    """Deformable attention of a map to itself: every pixel reads `num_points` points per head.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        num_points: See `DeformableAttention`.
        implementation: See `DeformableAttention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_points: int = 4,
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads)
        self.attn = DeformableAttention(
            embed_dims, num_heads, num_points=num_points, implementation=implementation
        )

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        (out,) = self.attn([x], [x], context)
        return out
