"""Attention inside the windows of a map: stripes (CSWin, arXiv 2107.00652), squares, all of it."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.map_window_attention.fused import map_window_attention_fused
from mmeffvit.ops.map_window_attention.reference import map_window_attention_reference
from mmeffvit.ops.map_window_attention.windows import (
    PADDINGS,
    Window,
    from_windows,
    to_windows,
)
from mmeffvit.ops.shapes import check_qkv

__all__ = ["from_windows", "map_window_attention", "to_windows"]

dispatch.register("map_window_attention", "fused", map_window_attention_fused)
dispatch.register("map_window_attention", "reference", map_window_attention_reference)


def map_window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: Window,
    padding: str = "even",
    *,
    scale: float | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Softmax attention between the tokens of a window.

    Windows lie side by side and do not overlap. Where they do not divide the map, queries, keys and
    values are zero beyond it, also if a window is larger than the map: such a key has the logit 0,
    is not masked, and takes its share of the weights without giving a value. Networks that put
    zeros around the map before they project it do so themselves.

    Args:
        q: (B, H, W, h, d) queries.
        k: (B, H, W, h, d) keys.
        v: (B, H, W, h, d) values.
        window: Rows and columns of a window; None is the whole axis.
        padding: Where zeros are put on an axis that windows do not divide: ``'even'`` on both ends,
            the odd one at the end, or ``'end'``, below and to the right only.
        scale: Factor of the logits; ``d ** -0.5`` if None.
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, H, W, h, d).

    Raises:
        ValueError: The shapes of q, k and v differ or are not (B, H, W, h, d), a side of the window
            is not positive, or `padding` is another word.
    """
    check_qkv("map_window_attention", q, k, v, "(B, H, W, h, d)")
    if len(window) != 2 or any(side is not None and side < 1 for side in window):
        raise ValueError(
            f"window must be (rows, columns), each positive or None for the whole axis: {window}"
        )
    if padding not in PADDINGS:
        raise ValueError(f"padding must be {' or '.join(map(repr, PADDINGS))}, got {padding!r}")
    return dispatch.run(
        "map_window_attention", implementation, q, k, v, window, padding, scale=scale
    )
