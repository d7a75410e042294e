"""Attention inside runs of tokens that follow one another, in their own order or in a given one."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.grouped_attention.fused import grouped_attention_fused
from mmeffvit.ops.grouped_attention.reference import cluster_sizes, grouped_attention_reference
from mmeffvit.ops.shapes import check_qkv

__all__ = ["cluster_sizes", "grouped_attention"]

dispatch.register("grouped_attention", "fused", grouped_attention_fused)
dispatch.register("grouped_attention", "reference", grouped_attention_reference)


def grouped_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    num_groups: int,
    order: Tensor | None = None,
    *,
    scale: float | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Softmax attention inside groups of near-equal size.

    Tokens in their order, or in `order`, are cut into ``num_groups`` consecutive groups, and every
    token attends to those of its own. Where the number of tokens L does not divide, the first ``L
    mod num_groups`` groups have one token more; more groups than tokens become L groups.

    Args:
        q: (B, L, h, d) queries.
        k: (B, L, h, d) keys.
        v: (B, L, h, d) values.
        num_groups: Number of groups; 1 or less is plain attention.
        order: (L,) or (B, h, L), a permutation: place i holds token ``order[..., i]``.
        scale: Factor of the logits; ``d ** -0.5`` if None.
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, L, h, d), in the order of the input tokens.

    Raises:
        ValueError: The shapes of q, k and v differ or are not (B, L, h, d).
    """
    check_qkv("grouped_attention", q, k, v)
    arguments = (q, k, v, num_groups, order)
    return dispatch.run("grouped_attention", implementation, *arguments, scale=scale)
