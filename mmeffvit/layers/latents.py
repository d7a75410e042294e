"""Tokens and a few latents that read from and write to one another (FIT, arXiv 2305.12689)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-6


class CrossAttention(nn.Module):
    """Multi-head attention of tokens to others of another width.

    Args:
        query_dims: Channels of what asks, and of the result.
        key_dims: Channels of what is read.
        num_heads: Heads h.
        width: Channels of all queries; `query_dims` if None.

    Raises:
        ValueError: The width is no multiple of the heads.
    """

    def __init__(self, query_dims: int, key_dims: int, num_heads: int, width: int | None = None):
        super().__init__()
        width = query_dims if width is None else width
        if width % num_heads:
            raise ValueError(f"a width of {width} channels is no multiple of {num_heads} heads")
        self.num_heads = num_heads
        self.q = nn.Linear(query_dims, width)
        self.kv = nn.Linear(key_dims, 2 * width)
        self.proj = nn.Linear(width, query_dims)

    def forward(
        self,
        x: Tensor,
        other: Tensor,
        there: Tensor | None = None,
        sees: Tensor | None = None,
    ) -> Tensor:
        """What tokens read.

        Args:
            x: (N, L, C) tokens that ask.
            other: (N, L', C') tokens that are read.
            there: (N, L') booleans, False for what is padding; None where nothing is.
            sees: (L, L') booleans, which of the others each token may read; None for all.

        Returns:
            (N, L, C).
        """
        queries = self.q(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        keys, values = (
            t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for t in self.kv(other).chunk(2, -1)
        )
        mask = None if there is None else there[:, None, None]
        if sees is not None:
            mask = sees if mask is None else mask & sees
        out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.proj(out.transpose(1, 2).flatten(2))


class LatentExchange(nn.Module):
    """What one stream reads of another (FIT, section 3): both are normed before.

    Its width and heads are the smaller ones of the two streams.

    Args:
        dims: Channels of the stream that reads.
        num_heads: Its heads.
        other_dims: Channels of the stream that is read.
        other_heads: Its heads.
    """

    def __init__(self, dims: int, num_heads: int, other_dims: int, other_heads: int):
        super().__init__()
        self.norm = nn.LayerNorm(dims, eps=NORM_EPS)
        self.other_norm = nn.LayerNorm(other_dims, eps=NORM_EPS)
        heads, width = min(num_heads, other_heads), min(dims, other_dims)
        self.attn = CrossAttention(dims, other_dims, heads, width)

    def forward(self, x: Tensor, other: Tensor, there: Tensor | None = None) -> Tensor:
        """As `CrossAttention`; what is added to `x`."""
        return self.attn(self.norm(x), self.other_norm(other), there)


class EncoderLayer(nn.Module):
    """The layer of a transformer's encoder on tokens: norm and attention, norm and MLP, added.

    Args:
        dims: Channels C.
        num_heads: Heads h.
        mlp_ratio: Channels of the MLP over C.
    """

    def __init__(self, dims: int, num_heads: int, mlp_ratio: float = 4):
        super().__init__()
        self.norm1 = nn.LayerNorm(dims, eps=NORM_EPS)
        self.attn = CrossAttention(dims, dims, num_heads)
        self.norm2 = nn.LayerNorm(dims, eps=NORM_EPS)
        self.fc1 = nn.Linear(dims, int(mlp_ratio * dims))
        self.fc2 = nn.Linear(int(mlp_ratio * dims), dims)

    def forward(self, x: Tensor, sees: Tensor | None = None) -> Tensor:
        """(N, L, C) to (N, L, C); `sees` as in `CrossAttention`."""
        normed = self.norm1(x)
        x = x + self.attn(normed, normed, sees=sees)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
