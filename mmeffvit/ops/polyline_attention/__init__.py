"""Polyline path masked attention (PPMA, arXiv 2506.15940)."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.flex import BY_NAME
from mmeffvit.ops.polyline_attention.flex import polyline_attention_flex, refuses
from mmeffvit.ops.polyline_attention.fused import polyline_attention_fused
from mmeffvit.ops.polyline_attention.reference import (
    line_masks,
    path_sums,
    polyline_attention_reference,
    polyline_mask,
)
from mmeffvit.ops.shapes import check_qkv

__all__ = ["line_masks", "path_sums", "polyline_attention", "polyline_mask"]

dispatch.register("polyline_attention", "fused", polyline_attention_fused)
dispatch.register("polyline_attention", "reference", polyline_attention_reference)
dispatch.register("polyline_attention", "flex", polyline_attention_flex, refuses, BY_NAME)


def polyline_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    steps: Tensor,
    *,
    decomposed: bool = False,
    scale: float | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Softmax attention over a map whose logits fall along the path from the query to the key.

    Every token says how much a path loses that steps over it, along its row and along its column.
    The whole form adds to each logit what the polyline along the query's row, then along the key's
    column loses; a second softmax has the polyline along the query's column, then along the key's
    row; the output is the mean of both. The decomposed form mixes values inside rows, then inside
    columns, and the other way round, each with what the straight path loses, and takes the mean.

    Gradients flow to q, k, v and the steps. The fused forms have first derivatives only.

    Args:
        q: (B, L, h, d) queries, already rotated; the L = H * W tokens are in row-major order.
        k: (B, L, h, d) keys, already rotated, not scaled.
        v: (B, L, h, d) values.
        steps: (B, H, W, h, 2) negative numbers, in float32 at best: what a step to the next column
            takes off, and what a step to the next row does. Of the tokens on a path, all count but
            the first, from the top or from the left.
        decomposed: Rows and columns one after the other, in place of all tokens at once.
        scale: Factor of the products of queries and keys; ``d ** -0.5`` if None.
        implementation: ``'fused'``, ``'reference'`` or, of the form named first, ``'flex'``; see
            `mmeffvit.ops.dispatch`.

    Returns:
        (B, L, h, d).

    Raises:
        ValueError: The shapes of q, k and v differ, are not (B, L, h, d), or do not fit `steps`.
    """
    check_qkv("polyline_attention", q, k, v)
    batch, tokens, heads, _ = q.shape
    if steps.dim() != 5 or (
        (steps.shape[0], steps.shape[1] * steps.shape[2], *steps.shape[3:])
        != (batch, tokens, heads, 2)
    ):
        # text that is made before it is needed would fix the sizes of a compiled graph
        raise ValueError(
            f"steps must be (B, H, W, h, 2) with B = {batch}, H * W = {tokens} and h = {heads}, "
            f"got {tuple(steps.shape)}"
        )
    options = {"decomposed": decomposed, "scale": scale}
    return dispatch.run("polyline_attention", implementation, q, k, v, steps, **options)
