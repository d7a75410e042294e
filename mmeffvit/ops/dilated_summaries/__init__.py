"""A map in a few tokens, and attention to them (FaViT, arXiv 2312.08614)."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.dilated_summaries.fused import dilated_summaries_fused, summary_attention_fused
from mmeffvit.ops.dilated_summaries.places import point_places
from mmeffvit.ops.dilated_summaries.reference import (
    dilated_summaries_reference,
    summary_attention_reference,
)

__all__ = ["dilated_summaries", "point_places", "summary_attention"]

dispatch.register("dilated_summaries", "fused", dilated_summaries_fused)
dispatch.register("dilated_summaries", "reference", dilated_summaries_reference)
dispatch.register("summary_attention", "fused", summary_attention_fused)
dispatch.register("summary_attention", "reference", summary_attention_reference)


def dilated_summaries(
    x: Tensor,
    num_heads: int,
    window_size: int,
    dilation: int,
    *,
    implementation: str | None = None,
) -> Tensor:
    """One token for each point of a k x k grid that is laid over a map again and again.

    The map is cut into spans of ``dilation * (k - 1) + 1`` tokens a side, the last ones filled up
    with the reflection of the map, and each span is read at k x k points that are `dilation` apart.
    For each point and head, the numbers that all spans have there, D of each, are put in a row,
    span by span, and averaged in D runs of equal length. With more than one span a run holds
    channels of several spans: as the authors' code does, this is no mean of a channel.

    Args:
        x: (B, C, H, W) map; the channels of a head follow one another.
        num_heads: Heads h.
        window_size: Points k on each axis.
        dilation: Distance between them.
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, h, k * k, D) summaries, D = C / h.

    Raises:
        ValueError: `x` is no map, heads do not divide its channels, or k or the distance is not
            positive.
    """
    if x.dim() != 4 or num_heads < 1 or x.shape[1] % num_heads:
        raise ValueError(
            "dilated_summaries needs a (B, C, H, W) map whose channels are a multiple of "
            f"num_heads, got {tuple(x.shape)} and {num_heads}"
        )
    if window_size < 1 or dilation < 1:
        raise ValueError(
            f"window_size and dilation must be positive, got {window_size} and {dilation}"
        )
    return dispatch.run("dilated_summaries", implementation, x, num_heads, window_size, dilation)


def summary_attention(
    q: Tensor, k: Tensor, v: Tensor, *, implementation: str | None = None
) -> Tensor:
    """Softmax attention of many queries to a few keys, scaled by ``D ** -0.5``.

    Args:
        q: (B, h, L, D) queries.
        k: (B, h, M, D) keys.
        v: (B, h, M, D) values.
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, h, L, D).

    Raises:
        ValueError: The shapes do not fit together.
    """
    if q.dim() != 4 or k.shape != v.shape or q.shape[:2] + q.shape[3:] != k.shape[:2] + k.shape[3:]:
        raise ValueError(
            "summary_attention needs q (B, h, L, D) and k, v (B, h, M, D), got "
            f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    return dispatch.run("summary_attention", implementation, q, k, v)
