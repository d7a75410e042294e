"""Attention with tables of the offset between query and key.

A gain of the logits (Gaussian mixture masks, arXiv 2309.05375), a bias, and a factor of the weights
(URPE, arXiv 2205.13401).
"""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.flex import BY_NAME
from mmeffvit.ops.relative_attention.flex import refuses, relative_attention_flex
from mmeffvit.ops.relative_attention.fused import relative_attention_fused
from mmeffvit.ops.relative_attention.reference import (
    by_query_and_key,
    of_window,
    relative_attention_reference,
)
from mmeffvit.ops.shapes import check_qkv

__all__ = ["by_query_and_key", "of_window", "relative_attention"]

dispatch.register("relative_attention", "fused", relative_attention_fused)
dispatch.register("relative_attention", "reference", relative_attention_reference)
dispatch.register("relative_attention", "flex", relative_attention_flex, refuses, BY_NAME)


def relative_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: tuple[int, int] | None = None,
    *,
    gain: Tensor | None = None,
    bias: Tensor | None = None,
    factor: Tensor | None = None,
    scale: float | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Attention ``(softmax(gain * scale q k^T + bias) * factor) v`` between the tokens of a window.

    What the logits are multiplied by, what is added to them, and what the weights are multiplied by
    after the softmax depends on the head and on the offset between query and key. Rows of weights
    no longer sum to one where there is a factor. Of a window that the edge of the map cuts, what
    lies beyond the map is not there.

    Gradients flow to q, k, v and the tables. The fused form has first derivatives only.

    Args:
        q: (B, H, W, h, d) queries.
        k: (B, H, W, h, d) keys.
        v: (B, H, W, h, d) values.
        window: Rows r and columns c of the windows that the map is cut in; None for one that is the
            whole map.
        gain: (h, 2 r - 1, 2 c - 1), by row and column of the key minus those of the query, from
            1 - r and 1 - c on; float32 at best. None for ones.
        bias: Of the same shape. None for zeros.
        factor: Of the same shape. None for ones.
        scale: Factor of the products of queries and keys; ``d ** -0.5`` if None.
        implementation: ``'fused'``, ``'reference'`` or ``'flex'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, H, W, h, d).

    Raises:
        ValueError: The shapes of q, k and v differ or are not (B, H, W, h, d), the window is not
            positive, or a table does not fit it.
    """
    check_qkv("relative_attention", q, k, v, "(B, H, W, h, d)")
    if window is not None and (len(window) != 2 or min(window) < 1):
        raise ValueError(f"window must be (rows, columns), both positive, or None: {window}")
    rows, columns = q.shape[1:3] if window is None else window
    for name, table in (("gain", gain), ("bias", bias), ("factor", factor)):
        if table is not None and table.shape != (q.shape[3], 2 * rows - 1, 2 * columns - 1):
            # text that is made before it is needed would fix the sizes of a compiled graph
            raise ValueError(
                f"{name} must be (h, 2 r - 1, 2 c - 1) with h = {q.shape[3]} heads and windows of "
                f"r = {rows} rows and c = {columns} columns, got {tuple(table.shape)}"
            )
    tables = {"gain": gain, "bias": bias, "factor": factor}
    return dispatch.run(
        "relative_attention", implementation, q, k, v, window, **tables, scale=scale
    )
