"""The token mixer of RMT."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from mmeffvit.layers.context import MapContext, rotary_1d
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.mixers.base import QKVProjection, TokenMixer, to_map
from mmeffvit.ops import apply_rotary
from mmeffvit.ops.manhattan_attention import ManhattanDecay, decay_rates, manhattan_attention
from mmeffvit.registry import MODELS


class DecayPositions(NamedTuple):
    """Rotary table (H*W, d/2, 2) of a map, and its decay masks for a rate per head."""

    table: Tensor
    decay: ManhattanDecay


class ManhattanAttention(nn.Module):
    """Attention whose logits fall with the distance in a map.

    Args:
        decomposed: Attention along rows, then along columns, in place of the whole map: cost grows
            with the area to the power of 1.5, not 2.
        implementation: Of `mmeffvit.ops.manhattan_attention`; None lets it choose.
    """

    def __init__(self, decomposed: bool = False, implementation: str | None = None):
        super().__init__()
        self.decomposed = decomposed
        self.implementation = implementation

    def forward(self, q: Tensor, k: Tensor, v: Tensor, positions: DecayPositions) -> Tensor:
        """Attention over tokens (B, L, h, d) of a map in row-major order."""
        return manhattan_attention(
            apply_rotary(q, positions.table),
            apply_rotary(k, positions.table),
            v,
            positions.decay,
            decomposed=self.decomposed,
            implementation=self.implementation,
        )

    def extra_repr(self) -> str:
        return f"decomposed={self.decomposed}"


@MODELS.register_module()
class MaSAMixer(TokenMixer):
    """Manhattan self-attention (arXiv 2309.11523, section 3): logits fall with distance.

    Queries and keys are rotated by the index of their pixel, counted row by row. A 5x5 depth-wise
    convolution of the values is added to what attention makes of them.

    Args:
        embed_dims: Channels C; the head dimension must be even.
        num_heads: Heads h.
        decay_init: Exponent of the first head's decay; see `mmeffvit.ops.decay_rates`.
        decay_range: Range of the heads' exponents; a larger one lets later heads look farther.
        decomposed: See `ManhattanAttention`.
        implementation: See `ManhattanAttention`.

    Raises:
        ValueError: The head dimension is odd, or a decay exponent is not positive.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        decay_init: float = 2,
        decay_range: float = 4,
        decomposed: bool = False,
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads, multiple=2)
        self.rates = decay_rates(num_heads, decay_init, decay_range)
        self.decay_init = decay_init
        self.decay_range = decay_range
        self.qkv = QKVProjection(embed_dims, num_heads)
        self.core = ManhattanAttention(decomposed, implementation)
        self.lepe = DepthwiseConv2d(embed_dims, 5)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def positions(self, context: MapContext) -> DecayPositions:
        decay = context.structure(
            ("manhattan_decay", self.rates),
            lambda: ManhattanDecay(*context.size, self.rates, context.device),
        )
        return DecayPositions(rotary_1d(context, self.head_dim), decay)

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v = self.qkv(x)
        v = v.contiguous()  # one copy serves both its readers
        out = self.core(q, k, v, self.positions(context))
        return self.proj(to_map(out, context) + self.lepe(to_map(v, context)))

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, decay_init={self.decay_init}, decay_range={self.decay_range}"
        )
