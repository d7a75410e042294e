"""The k-means decoder: queries are cluster centres, and masks are who belongs to which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers import DropPath
from mmeffvit.models.heads.kmax.blocks import NORM, ConvNorm, init_normal
from mmeffvit.ops.cluster_sum import cluster_sum

#: prior odds of a query that finds nothing, which the authors add to its logit
_VOID_SHARE = 0.9


@dataclass
class Prediction:
    """What queries say.

    Attributes:
        class_logits: (B, N, K + 1), the last for nothing.
        mask_logits: (B, N, H, W).
        embeddings: (B, D, H, W), of pixels, of unit length.
    """

    class_logits: Tensor
    mask_logits: Tensor
    embeddings: Tensor


class Predictor(nn.Module):
    """Masks as products of pixels and queries, and classes of queries.

    Args:
        in_dim: Channels of the pixels.
        dim: Channels of the queries.
        mask_dim: Channels of the product.
        num_classes: K.
    """

    def __init__(self, in_dim: int, dim: int, mask_dim: int, num_classes: int):
        super().__init__()
        self.pixel_depthwise = ConvNorm(in_dim, in_dim, 5, depthwise=True)
        self.pixel_conv = ConvNorm(in_dim, dim)
        self.pixel_embed = ConvNorm(dim, mask_dim, act=False, bias=True, std=0.01)
        self.kernel = ConvNorm(dim, mask_dim, ndim=1, act=False)
        self.classes = nn.Conv1d(dim, num_classes + 1, 1)
        # all queries and pixels share one gain
        self.mask_norm = nn.BatchNorm2d(1, **NORM)
        init_normal(self.classes.weight, 0.01)
        nn.init.zeros_(self.classes.bias)
        nn.init.constant_(self.mask_norm.weight, 0.1)
        self.void_prior = math.log(num_classes * _VOID_SHARE / (1 - _VOID_SHARE))

    def forward(self, class_queries: Tensor, mask_queries: Tensor, pixels: Tensor) -> Prediction:
        """Queries (B, C, N) for classes and for masks, and pixels (B, C', H, W)."""
        embeddings, mask_logits = self.masks(mask_queries, pixels)
        logits = self.classes(class_queries).transpose(1, 2)
        prior = logits.new_zeros(logits.shape[-1])
        prior[-1] = self.void_prior
        return Prediction(logits + prior, mask_logits, embeddings)

    def masks(self, queries: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of pixels (B, D, H, W) and mask logits (B, N, H, W)."""
        embeddings = self.pixel_embed(self.pixel_conv(self.pixel_depthwise(pixels)))
        embeddings = F.normalize(embeddings.float(), dim=1)
        logits = torch.einsum("bdn,bdhw->bnhw", self.kernel(queries), embeddings)
        return embeddings, self.mask_norm(logits.flatten(1, 2)[:, None])[:, 0].view_as(logits)


class QueryAttention(nn.Module):
    """Self-attention of queries with a batch norm in the place of the scale: (B, C, N) to itself.

    Args:
        dim: C; keys have half of it.
        num_heads: Heads.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = ConvNorm(dim, 2 * dim, ndim=1, act=False, std=dim**-0.5)
        self.logit_norm = nn.BatchNorm2d(num_heads, **NORM)
        self.out_norm = nn.BatchNorm1d(dim, **NORM)
        self.proj = ConvNorm(dim, dim, ndim=1, act=False, zero_init=True)

    def forward(self, x: Tensor) -> Tensor:
        dim = x.shape[1]
        parts = self.qkv(x).split((dim // 2, dim // 2, dim), 1)
        q, k, v = (part.unflatten(1, (self.num_heads, -1)) for part in parts)
        logits = self.logit_norm(torch.einsum("bhdn,bhdm->bhnm", q, k))
        weights = logits.softmax(-1, dtype=torch.float32).to(v.dtype)
        out = torch.einsum("bhnm,bhdm->bhdn", weights, v).flatten(1, 2)
        return self.proj(F.gelu(self.out_norm(out)))


class KMeansLayer(nn.Module):
    """One update of the cluster centres by the pixels of a map, and by one another.

    Args:
        in_dim: Channels of the pixels.
        dim: C, channels of the queries.
        mask_dim: Channels of the product that makes masks.
        ffn_dim: Hidden channels of the feed-forward network.
        num_heads: Of the self-attention.
        num_classes: K.
        drop_path: Rate of stochastic depth.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        mask_dim: int,
        ffn_dim: int,
        num_heads: int,
        num_classes: int,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.query_conv = ConvNorm(dim, dim, ndim=1)
        self.pixel_conv = ConvNorm(in_dim, dim)
        self.pixel_value = ConvNorm(dim, dim, act=False, std=dim**-0.5)
        self.predictor = Predictor(dim, dim, mask_dim, num_classes)
        self.kmeans_norm = nn.BatchNorm1d(dim, **NORM)
        self.kmeans_proj = ConvNorm(dim, dim, ndim=1, act=False, zero_init=True)
        self.attention = QueryAttention(dim, num_heads)
        self.ffn = nn.Sequential(
            ConvNorm(dim, ffn_dim, ndim=1),
            ConvNorm(ffn_dim, dim, ndim=1, act=False, zero_init=True),
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, pixels: Tensor, queries: Tensor) -> tuple[Tensor, Prediction]:
        """Pixels (B, C', H, W) and queries (B, C, N) to new queries, and what the old ones say."""
        pixels = self.pixel_conv(F.gelu(pixels))
        space = self.query_conv(queries)
        prediction = self.predictor(space, space, pixels)
        logits = prediction.mask_logits.detach().flatten(2)
        centres = cluster_sum(logits, self.pixel_value(pixels).flatten(2))
        queries = queries + self.drop_path(self.kmeans_proj(self.kmeans_norm(centres)))
        # attention looks at the queries as they were
        queries = F.gelu(queries + self.drop_path(self.attention(space)))
        return F.gelu(queries + self.drop_path(self.ffn(queries))), prediction


class KMeansDecoder(nn.Module):
    """Cluster centres, updated by the three coarsest maps in turn.

    Args:
        in_channels: Channels of the maps, coarse to fine; of the first three and of the last.
        num_queries: N.
        num_classes: K.
        depths: Layers on each of the three coarsest maps.
        embed_dims: C, channels of the queries.
        mask_dims: Channels of the product that makes masks.
        ffn_dims: Hidden channels of the feed-forward networks.
        num_heads: Of the self-attention.
        drop_path_rate: Rate of stochastic depth, the same in all layers.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_queries: int,
        num_classes: int,
        depths: Sequence[int] = (2, 2, 2),
        embed_dims: int = 256,
        mask_dims: int = 128,
        ffn_dims: int = 2048,
        num_heads: int = 8,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        if embed_dims % (2 * num_heads) or len(depths) != 3:
            raise ValueError(
                f"the k-means decoder needs embed_dims that 2 * num_heads divides, and three "
                f"depths; got embed_dims={embed_dims}, num_heads={num_heads}, "
                f"depths={tuple(depths)}"
            )
        # channels first, as the authors store them
        self.centres = nn.Parameter(torch.empty(embed_dims, num_queries))
        init_normal(self.centres, 1.0)
        self.depths = tuple(depths)
        self.layers = nn.ModuleList(
            KMeansLayer(
                in_channels[level],
                embed_dims,
                mask_dims,
                ffn_dims,
                num_heads,
                num_classes,
                drop_path_rate,
            )
            for level, depth in enumerate(depths)
            for _ in range(depth)
        )
        self.class_proj = ConvNorm(embed_dims, embed_dims, ndim=1)
        self.mask_proj = ConvNorm(embed_dims, embed_dims, ndim=1)
        self.predictor = Predictor(in_channels[-1], embed_dims, mask_dims, num_classes)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Prediction, list[Prediction]]:
        """The last prediction, on the finest map, and those of the layers, on theirs.

        Args:
            maps: Of the pixel decoder, coarse to fine.
        """
        queries = self.centres.expand(maps[0].shape[0], -1, -1)
        of_layers = []
        levels = [level for level, depth in enumerate(self.depths) for _ in range(depth)]
        for level, layer in zip(levels, self.layers):
            queries, prediction = layer(maps[level], queries)
            of_layers.append(prediction)
        final = self.predictor(self.class_proj(queries), self.mask_proj(queries), maps[-1])
        return final, of_layers
