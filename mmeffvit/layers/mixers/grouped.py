"""The token mixer of SReT."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import QKVProjection, TokenMixer, to_map
from mmeffvit.ops import grouped_attention
from mmeffvit.registry import MODELS

ORDERS = ("shuffled", "identity")


def scattered(num_tokens: int, device: torch.device) -> Tensor:
    """(L,) a fixed permutation that brings tokens from everywhere together.

    Places are sorted by their multiples of 2^32 over the golden ratio, modulo 2^32 (Knuth's
    multiplicative hashing): integers, the same on every device and in compiled graphs.
    """
    places = torch.arange(num_tokens, device=device)
    return (places * 2654435761 % 2**32).argsort()


class GroupedAttention(nn.Module):
    """Attention inside groups of tokens that follow one another, whatever they are tokens of.

    Args:
        implementation: Of `mmeffvit.ops.grouped_attention`; None lets it choose.
    """

    def __init__(self, implementation: str | None = None):
        super().__init__()
        self.implementation = implementation

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, positions: tuple[int, Tensor | None]
    ) -> Tensor:
        """Tokens (B, L, h, d), the number of groups, and an order of tokens (L,) or None."""
        return grouped_attention(q, k, v, *positions, implementation=self.implementation)


@MODELS.register_module()
class GroupMixer(TokenMixer):
    """Attention inside bands of a map, or inside groups from everywhere (arXiv 2111.05297, 3.3).

    Tokens in row-major order are cut into groups. In the first pass of a recursive block these are
    bands of the map; in later ones tokens are shuffled before, unless there is one group. Nothing
    learnt depends on the number of groups.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        num_groups: Number of groups, or one for each pass, of which the last also holds for later
            ones.
        order: Of later passes. ``'shuffled'``: anew for each batch in training, as published, and
            the same always in evaluation, where the authors also draw. ``'identity'``: bands.
        implementation: Of `mmeffvit.ops.grouped_attention`; None lets it choose.

    Raises:
        ValueError: The order is another, or a number of groups is not positive.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_groups: int | Sequence[int] = 1,
        order: str = "shuffled",
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads)
        groups = (num_groups,) if isinstance(num_groups, int) else tuple(num_groups)
        if order not in ORDERS or not groups or min(groups) < 1:
            raise ValueError(
                f"GroupMixer needs positive num_groups and an order of {', '.join(ORDERS)}, got "
                f"{num_groups} and {order!r}"
            )
        self.num_groups = groups
        self.order = order
        self.qkv = QKVProjection(embed_dims, num_heads)
        self.core = GroupedAttention(implementation)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def make_order(self, context: MapContext) -> Tensor:
        """(L,) the order of tokens of a shuffled pass."""
        if self.training:
            return torch.randperm(context.num_tokens, device=context.device)
        return context.structure("scattered", lambda: scattered(context.num_tokens, context.device))

    def positions(self, context: MapContext, index: int = 0) -> tuple[int, Tensor | None]:
        groups = self.num_groups[min(index, len(self.num_groups) - 1)]
        shuffles = index > 0 and groups > 1 and self.order == "shuffled"
        return groups, self.make_order(context) if shuffles else None

    def forward(self, x: Tensor, context: MapContext, index: int = 0) -> Tensor:
        """`index` is the pass of a recursive block, from 0."""
        out = self.core(*self.qkv(x), self.positions(context, index))
        return self.proj(to_map(out, context))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_groups={self.num_groups}, order={self.order!r}"
