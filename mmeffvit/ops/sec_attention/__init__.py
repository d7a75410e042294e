"""Semantic equitable clustering attention (SECViT, arXiv 2405.13337, section 3)."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.grouped_attention import cluster_sizes
from mmeffvit.ops.sec_attention.fused import sec_attention_fused
from mmeffvit.ops.sec_attention.reference import sec_attention_reference, sec_cluster_ids
from mmeffvit.ops.shapes import check_qkv

__all__ = ["cluster_sizes", "sec_attention", "sec_cluster_ids"]

dispatch.register("sec_attention", "fused", sec_attention_fused)
dispatch.register("sec_attention", "reference", sec_attention_reference)


def sec_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    num_clusters: int,
    *,
    scale: float | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Softmax attention inside clusters of equal size, made by similarity to the mean key.

    Per sample and head, tokens are ordered by the cosine similarity between their key and the mean
    of all keys, and the ordered sequence is cut into ``num_clusters`` consecutive groups; every
    token attends to the tokens of its own group. Where the number of tokens L does not divide, the
    first ``L mod K`` groups have one token more; more clusters than tokens become L clusters. One
    cluster or fewer is plain attention.

    The order is computed in float32 and carries no gradient, as in the paper; ties are broken by
    the position of the token.

    Args:
        q: (B, L, h, d) queries, already rotated.
        k: (B, L, h, d) keys, already rotated, not scaled.
        v: (B, L, h, d) values.
        num_clusters: Number of clusters K.
        scale: Factor of the logits; ``d ** -0.5`` if None.
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, L, h, d), in the order of the input tokens.

    Raises:
        ValueError: The shapes of q, k and v differ or are not (B, L, h, d).
    """
    check_qkv("sec_attention", q, k, v)
    return dispatch.run("sec_attention", implementation, q, k, v, num_clusters, scale=scale)
