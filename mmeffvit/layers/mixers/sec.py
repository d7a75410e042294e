"""The token mixer of SecViT."""

from __future__ import annotations

from torch import Tensor, nn

from mmeffvit.layers.context import MapContext, rotary_2d
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.mixers.base import QKVProjection, TokenMixer, to_map
from mmeffvit.ops import apply_rotary, sec_attention
from mmeffvit.registry import MODELS


class SECAttention(nn.Module):
    """Semantic equitable clustering of tokens, whatever they are tokens of.

    Args:
        num_clusters: Clusters K, whatever the number of tokens; 1 or less is plain attention.
        tokens_per_cluster: If given, the number of clusters follows that of the tokens,
            ``max(1, round(L / tokens_per_cluster))``, and `num_clusters` only says whether there
            are clusters at all: cost grows linearly. Not from the paper.
        implementation: Of `mmeffvit.ops.sec_attention`; None lets it choose.

    Raises:
        ValueError: `tokens_per_cluster` is not positive.
    """

    def __init__(
        self,
        num_clusters: int = 1,
        tokens_per_cluster: int | None = None,
        implementation: str | None = None,
    ):
        super().__init__()
        if tokens_per_cluster is not None and tokens_per_cluster < 1:
            raise ValueError(f"tokens_per_cluster must be at least 1, got {tokens_per_cluster}")
        self.num_clusters = num_clusters
        self.tokens_per_cluster = tokens_per_cluster
        self.implementation = implementation

    def clusters_for(self, num_tokens: int) -> int:
        """Number of clusters of so many tokens."""
        if self.num_clusters <= 1:
            return 1
        if self.tokens_per_cluster is None:
            return min(self.num_clusters, num_tokens)
        return max(1, round(num_tokens / self.tokens_per_cluster))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        """Attention over tokens (B, L, h, d) with their (L, d/2, 2) rotary table."""
        q, k = apply_rotary(q, table), apply_rotary(k, table)
        clusters = self.clusters_for(q.shape[1])
        return sec_attention(q, k, v, clusters, implementation=self.implementation)

    def extra_repr(self) -> str:
        return f"num_clusters={self.num_clusters}, tokens_per_cluster={self.tokens_per_cluster}"


@MODELS.register_module()
class SECMixer(TokenMixer):
    """Semantic equitable clustering (arXiv 2405.13337, section 3): attention inside equal clusters.

    A 5x5 depth-wise convolution of the values, as an image, is added to what attention makes of
    them (LePE, CSWin, arXiv 2107.00652).

    Args:
        embed_dims: Channels C; the head dimension must be a multiple of 4.
        num_heads: Heads h.
        num_clusters: See `SECAttention`.
        tokens_per_cluster: See `SECAttention`.
        implementation: See `SECAttention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_clusters: int = 1,
        tokens_per_cluster: int | None = None,
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads, multiple=4)
        self.qkv = QKVProjection(embed_dims, num_heads)
        self.core = SECAttention(num_clusters, tokens_per_cluster, implementation)
        self.lepe = DepthwiseConv2d(embed_dims, 5)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def positions(self, context: MapContext) -> Tensor:
        return rotary_2d(context, self.head_dim)

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v = self.qkv(x)
        v = v.contiguous()  # one copy serves both its readers
        out = self.core(q, k, v, self.positions(context))
        return self.proj(to_map(out, context) + self.lepe(to_map(v, context)))
