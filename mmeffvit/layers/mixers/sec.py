"""The token mixer of SecViT."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import LePEAttention
from mmeffvit.ops import apply_rotary, sec_attention
from mmeffvit.registry import MODELS


@MODELS.register_module()
class SECMixer(LePEAttention):
    """Semantic equitable clustering (arXiv 2405.13337, section 3): attention inside equal clusters.

    Args:
        embed_dims: Channels C; the head dimension must be a multiple of 4.
        num_heads: Heads h.
        num_clusters: Clusters K, whatever the size of the map; 1 or less is plain attention.
        tokens_per_cluster: If given, the number of clusters follows the map,
            ``max(1, round(H * W / tokens_per_cluster))``, and `num_clusters` only says whether
            there are clusters at all: cost grows linearly with area. Not from the paper.
        implementation: Of `mmeffvit.ops.sec_attention`; None lets it choose.

    Raises:
        ValueError: The head dimension is not a multiple of 4, or `tokens_per_cluster` is not
            positive.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_clusters: int = 1,
        tokens_per_cluster: int | None = None,
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads)
        if self.head_dim % 4:
            raise ValueError(
                "SECMixer encodes positions in groups of 4 channels: embed_dims / num_heads must "
                f"be a multiple of 4, got {embed_dims} / {num_heads}"
            )
        if tokens_per_cluster is not None and tokens_per_cluster < 1:
            raise ValueError(f"tokens_per_cluster must be at least 1, got {tokens_per_cluster}")
        self.num_clusters = num_clusters
        self.tokens_per_cluster = tokens_per_cluster
        self.implementation = implementation

    def clusters_for(self, num_tokens: int) -> int:
        """Number of clusters on a map of so many tokens."""
        if self.num_clusters <= 1:
            return 1
        if self.tokens_per_cluster is None:
            return min(self.num_clusters, num_tokens)
        return max(1, round(num_tokens / self.tokens_per_cluster))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: MapContext) -> Tensor:
        table = context.rotary_2d(self.head_dim)
        q, k = apply_rotary(q, table), apply_rotary(k, table)
        clusters = self.clusters_for(context.num_tokens)
        return sec_attention(q, k, v, clusters, implementation=self.implementation)

    def extra_repr(self) -> str:
        return (
            f"num_heads={self.num_heads}, num_clusters={self.num_clusters}, "
            f"tokens_per_cluster={self.tokens_per_cluster}"
        )
