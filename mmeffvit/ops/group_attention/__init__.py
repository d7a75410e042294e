"""Attention in groups of near or of distant tokens (CrossFormer, arXiv 2108.00154)."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.flex import BY_NAME
from mmeffvit.ops.group_attention.flex import group_attention_flex, refuses
from mmeffvit.ops.group_attention.fused import group_attention_fused
from mmeffvit.ops.group_attention.groups import axis_groups, map_groups
from mmeffvit.ops.group_attention.reference import (
    from_groups,
    group_attention_reference,
    to_groups,
)
from mmeffvit.ops.shapes import check_qkv

__all__ = ["axis_groups", "from_groups", "group_attention", "map_groups", "to_groups"]

dispatch.register("group_attention", "fused", group_attention_fused)
dispatch.register("group_attention", "reference", group_attention_reference)
dispatch.register("group_attention", "flex", group_attention_flex, refuses, BY_NAME)


def group_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    interval: int = 1,
    *,
    scale: float | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Softmax attention between the tokens of a group, with a bias for each pair of places in it.

    The map is cut in regions of ``r * interval`` rows and ``c * interval`` columns. Group (a, b) of
    a region has its rows a, a + interval, ... and its columns b, b + interval, ...: with an
    interval of 1 groups are windows, with a larger one their tokens are far from one another. What
    of a region lies beyond the map is not there: groups at the edges are smaller.

    Gradients flow to q, k, v and the bias. The fused form has first derivatives only.

    Args:
        q: (B, H, W, h, d) queries.
        k: (B, H, W, h, d) keys.
        v: (B, H, W, h, d) values.
        bias: (h, r, c, r, c) added to the logits, by head, place of the query and place of the key
            in the group; float32 at best. It says how large a full group is.
        interval: Distance between the tokens of a group, on both axes.
        scale: Factor of the products of queries and keys; ``d ** -0.5`` if None.
        implementation: ``'fused'``, ``'reference'`` or ``'flex'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, H, W, h, d).

    Raises:
        ValueError: The shapes of q, k and v differ or are not (B, H, W, h, d), the bias is not that
            of so many heads, or the interval is not positive.
    """
    check_qkv("group_attention", q, k, v, "(B, H, W, h, d)")
    if bias.dim() != 5 or bias.shape[0] != q.shape[3] or bias.shape[1:3] != bias.shape[3:]:
        raise ValueError(
            f"bias must be (h, r, c, r, c) with h = {q.shape[3]} heads, for groups of r rows and "
            f"c columns, got {tuple(bias.shape)}"
        )
    if interval < 1:
        raise ValueError(f"interval must be at least 1, got {interval}")
    return dispatch.run("group_attention", implementation, q, k, v, bias, interval, scale=scale)
