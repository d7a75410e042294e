"""Groups of tokens that speak to one another through latents: a block of FIT as a token mixer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.latents import CrossAttention, EncoderLayer, LatentExchange
from mmeffvit.layers.mixers.base import TokenMixer
from mmeffvit.layers.sine_position import sine_map
from mmeffvit.ops.group_attention import from_groups, to_groups
from mmeffvit.ops.tables import build_table, refuse_jit_trace
from mmeffvit.registry import MODELS


@MODELS.register_module()
class GroupLatentMixer(TokenMixer):
    """A block of FIT's encoder (arXiv 2305.12689, section 3) without memory of other blocks.

    Tokens attend inside groups, windows of the map. A few latents of each group read them, all
    latents of the map attend to one another, and every token reads the latents of its group: it
    sees the whole map at a cost of the square of the number of latents, not of tokens.

    In the paper, latents go from block to block, and one table holds those of each group of an
    image of one size. Here they start anew, as those of any group with a code of sines of the
    group's place added, so that blocks can be computed again and maps have any size. The MLP after
    the local attention is that of the network's block. A map that groups do not divide is filled up
    with tokens that nobody reads.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h, of latents too.
        group_size: Rows and columns of a group.
        num_latents: Latents m of a group.
        latent_dims: Channels D of a latent, an even multiple of `num_heads`; C if None.
        depth: Layers in which all latents attend to one another.
        mlp_ratio: Channels of the MLP in these layers over D.
        causal: Let latents attend to those of their own group and of groups before it, row by row:
            the paper's mask for sequences. Nothing then depends on a later group. Images have no
            such order, and the paper leaves it out for them.

    Raises:
        ValueError: A size is not positive, or channels do not divide so.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        group_size: int = 8,
        num_latents: int = 8,
        latent_dims: int | None = None,
        depth: int = 1,
        mlp_ratio: float = 4,
        causal: bool = False,
    ):
        super().__init__(embed_dims, num_heads)
        if min(group_size, num_latents, depth) < 1:
            raise ValueError(
                "group_size, num_latents and depth must be at least 1, got "
                f"{group_size}, {num_latents} and {depth}"
            )
        latent_dims = embed_dims if latent_dims is None else latent_dims
        if latent_dims % num_heads or latent_dims % 2:
            raise ValueError(
                "latent_dims must be even and a multiple of num_heads, got "
                f"{latent_dims} and {num_heads}"
            )
        self.group_size = group_size
        self.causal = causal
        self.latents = nn.Parameter(torch.empty(num_latents, latent_dims))
        nn.init.trunc_normal_(self.latents, std=0.02)
        self.local = CrossAttention(embed_dims, embed_dims, num_heads)
        self.read = LatentExchange(latent_dims, num_heads, embed_dims, num_heads)
        self.layers = nn.ModuleList(
            EncoderLayer(latent_dims, num_heads, mlp_ratio) for _ in range(depth)
        )
        self.write = LatentExchange(embed_dims, num_heads, latent_dims, num_heads)

    def first_latents(self, context: MapContext) -> Tensor:
        """(G, m, D) latents of the groups of a map, row by row, before they read."""
        counts = ((n + self.group_size - 1) // self.group_size for n in context.size)
        code = sine_map(*counts, self.latents.shape[1], self.latents.device)[0].flatten(1).T
        return self.latents + code[:, None].to(self.latents.dtype)

    def _there(self, context: MapContext) -> Tensor | None:
        """(G, n) booleans, False for padding; None where groups divide the map."""
        if not torch.compiler.is_compiling():
            refuse_jit_trace()
            if all(n % self.group_size == 0 for n in context.size):
                return None
        return context.structure(
            ("real tokens of groups", self.group_size),
            lambda: build_table(_real_tokens, context.size, self.group_size, context.device),
        )

    def _groups_before(self, context: MapContext, groups: int) -> Tensor:
        """(G m, G m) booleans: whether a latent's group is another's, or before it."""
        count = self.latents.shape[0]
        return context.structure(
            ("latents of groups before", self.group_size, count),
            lambda: build_table(_earlier, groups, count, context.device),
        )

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        batch, group = x.shape[0], (self.group_size, self.group_size)
        tokens = to_groups(x.permute(0, 2, 3, 1), group, 1).flatten(0, 1)  # (B G, n, C)
        there = self._there(context)
        if there is not None:
            there = there.expand(batch, -1, -1).flatten(0, 1)
        local = self.local(tokens, tokens, there)
        tokens = tokens + local
        latents = self.first_latents(context).expand(batch, -1, -1, -1)
        counts = latents.shape[1:3]
        latents = latents.flatten(0, 1)
        latents = latents + self.read(latents, tokens, there)
        latents = latents.unflatten(0, (batch, -1)).flatten(1, 2)
        sees = self._groups_before(context, counts[0]) if self.causal else None
        for layer in self.layers:
            latents = layer(latents, sees)
        latents = latents.unflatten(1, counts).flatten(0, 1)
        out = local + self.write(tokens, latents)
        return from_groups(out.unflatten(0, (batch, -1)), context.size, group, 1).permute(
            0, 3, 1, 2
        )

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, group_size={self.group_size}, "
            f"num_latents={self.latents.shape[0]}, causal={self.causal}"
        )


def _real_tokens(size: tuple[int, int], group_size: int, device: torch.device) -> Tensor:
    ones = torch.ones(1, *size, dtype=torch.bool, device=device)
    return to_groups(ones, (group_size, group_size), 1)[0]


def _earlier(groups: int, count: int, device: torch.device) -> Tensor:
    numbers = torch.arange(groups, device=device).repeat_interleave(count)
    return numbers[:, None] >= numbers
