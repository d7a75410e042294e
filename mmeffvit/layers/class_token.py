"""Class tokens: patches with one in front, and attention that writes to it alone.

Tokens are a map of one row, (B, C, 1, 1 + N), in which everything that acts per pixel works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.drop_path import DropPath
from mmeffvit.layers.mixers.base import Mixer, QKVProjection
from mmeffvit.layers.norm import LayerNorm2d
from mmeffvit.layers.position_table import PositionTable
from mmeffvit.ops import map_layout

_norm = partial(LayerNorm2d, eps=1e-6)


class ClassTokenEmbedding(nn.Module):
    """Patches, their positions, and a class token in front.

    Args:
        patch_embed: Images of whole patches (B, 3, H, W) to (B, C, H / patch, W / patch).
        dim: Channels C.
        size: Rows and columns of the table of positions, which is resized to other maps.
    """

    def __init__(self, patch_embed: nn.Module, dim: int, size: tuple[int, int]):
        super().__init__()
        self.patch_embed = patch_embed
        self.position = PositionTable(dim, size, extra_tokens=1)
        self.class_token = nn.Embedding(1, dim)
        nn.init.trunc_normal_(self.class_token.weight, std=0.02)

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens (B, C, 1, 1 + N), class token first, and rows and columns of the others."""
        x = self.position(self.patch_embed(image))
        token = self.class_token.weight + self.position.of_extra_tokens()
        token = token.T[None, :, None].expand(x.shape[0], -1, -1, -1).to(x.dtype)
        return map_layout(torch.cat((token, x.flatten(2).unsqueeze(2)), 3)), x.shape[-2:]


class ClassAttention(Mixer):
    """One query, the first token's, over all tokens (CrossViT, arXiv 2103.14899, section 3.3).

    It writes to one token alone, so it is no token mixer.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
    """

    def __init__(self, embed_dims: int, num_heads: int):
        super().__init__(embed_dims, num_heads)
        self.q = QKVProjection(embed_dims, num_heads, parts=1)
        self.kv = QKVProjection(embed_dims, num_heads, parts=2)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 1, 1 + N), normed, to what is added to the first token, (B, C, 1, 1)."""
        (q,) = self.q(x[..., :1])
        q, k, v = (t.transpose(1, 2) for t in (q, *self.kv(x)))
        out = F.scaled_dot_product_attention(q, k, v)  # (B, h, 1, d)
        return self.proj(out.reshape(x.shape[0], self.embed_dims, 1, 1))


class CrossBlock(nn.Module):
    """The first of the tokens looks at all of them, with a residual."""

    def __init__(self, dim: int, num_heads: int, drop_path: float):
        super().__init__()
        self.norm1 = _norm(dim)
        self.attn = ClassAttention(dim, num_heads)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :1] + self.drop_path(self.attn(self.norm1(x)))


class TokenExchange(nn.Module):
    """A class token goes to another branch, looks at its patches, and comes back another.

    Args:
        dim: Channels of its own branch.
        other_dim: Channels of the other one.
        num_heads: Heads of the other one.
        count: Cross blocks; from the second on the token sees itself alone, as published.
        drop_path: Their stochastic-depth rate.
    """

    def __init__(self, dim: int, other_dim: int, num_heads: int, count: int, drop_path: float):
        super().__init__()
        self.there = nn.Sequential(_norm(dim), nn.GELU(), nn.Conv2d(dim, other_dim, 1))
        self.fusion = nn.ModuleList(
            CrossBlock(other_dim, num_heads, drop_path) for _ in range(count)
        )
        self.back = nn.Sequential(_norm(other_dim), nn.GELU(), nn.Conv2d(other_dim, dim, 1))

    def forward(self, tokens: Tensor, others: Tensor) -> Tensor:
        """Tokens of both branches to the new class token (B, C, 1, 1)."""
        x = torch.cat((self.there(tokens[..., :1]), others[..., 1:]), 3)
        for block in self.fusion:
            x = block(x)
        return self.back(x)


class MultiScaleBlock(nn.Module):
    """Two branches side by side, then exchanges of their class tokens.

    Args:
        encoders: Branch, '0' or '1', to its blocks: tokens and a context to tokens.
        exchanges: Branch to the `TokenExchange` of its class token, as far as they are needed.
    """

    def __init__(
        self, encoders: Mapping[str, Iterable[nn.Module]], exchanges: Mapping[str, nn.Module]
    ):
        super().__init__()
        self.encoders = nn.ModuleDict({i: nn.ModuleList(e) for i, e in encoders.items()})
        self.exchanges = nn.ModuleDict(exchanges)

    def forward(
        self,
        tokens: Mapping[str, Tensor],
        contexts: Mapping[str, MapContext],
        run: Callable[..., Tensor],
    ) -> dict[str, Tensor]:
        """Tokens by branch to tokens by branch; ``run(module, *args)`` calls a module."""
        tokens = dict(tokens)
        for i, encoder in self.encoders.items():
            for block in encoder:
                tokens[i] = run(block, tokens[i], contexts[i])
        # both branches give what they had before either exchange
        given = {i: (tokens[i], tokens[str(1 - int(i))]) for i in self.exchanges}
        for i, exchange in self.exchanges.items():
            tokens[i] = torch.cat((run(exchange, *given[i]), tokens[i][..., 1:]), 3)
        return tokens
