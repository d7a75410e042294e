"""Attention inside of windows of points, with relative positions per axis (ConDaFormer)."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.points.window_attention.fused import window_attention_fused
from mmeffvit.ops.points.window_attention.reference import window_attention_reference
from mmeffvit.ops.points.windows import RelativeWindows

__all__ = ["RelativeWindows", "window_attention"]

dispatch.register("window_attention", "fused", window_attention_fused)
dispatch.register("window_attention", "reference", window_attention_reference)


def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_table: Tensor,
    k_table: Tensor,
    v_table: Tensor,
    windows: RelativeWindows,
    *,
    implementation: str | None = None,
) -> Tensor:
    """Softmax attention between the points of a window, with relative positions in q, k and v.

    With the tables' rows for the difference of two points along x, y and z added up, T(i, j):
    ``logit_ij = q_i . k_j + q_i . T_q(i, j) + k_j . T_k(i, j)`` and ``o_i = sum_j a_ij (v_j +
    T_v(i, j))``. Queries come scaled; the third term is not, as published. Computed in float32,
    also under autocast, and returned in the type of q.

    Args:
        q: (N, h, d) queries, already scaled.
        k: (N, h, d) keys.
        v: (N, h, d) values.
        q_table: (2G-1, 3, h, d), row ``bin_i - bin_j + G - 1`` of each axis.
        k_table: The same for keys.
        v_table: The same for values.
        windows: Who shares a window with whom, and bins; of G bins.
        implementation: 'fused' or 'reference'; see `mmeffvit.ops.dispatch`.

    Returns:
        (N, h, d).

    Raises:
        ValueError: The shapes do not fit each other or the windows.
    """
    if q.dim() != 3 or not q.shape == k.shape == v.shape or len(q) != len(windows.window):
        raise ValueError(
            f"q, k and v must be (N, h, d) for the {len(windows.window)} points of the windows, "
            f"got {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    shape = (2 * windows.num_bins - 1, 3, *q.shape[1:])
    for name, table in (("q_table", q_table), ("k_table", k_table), ("v_table", v_table)):
        if tuple(table.shape) != shape:
            raise ValueError(f"{name} must be {shape}, got {tuple(table.shape)}")
    arguments = (q, k, v, q_table, k_table, v_table, windows)
    return dispatch.run("window_attention", implementation, *arguments)
