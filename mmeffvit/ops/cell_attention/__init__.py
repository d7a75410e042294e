"""Attention of each query to a few candidates of its own: cells of a map, parallel streams."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.cell_attention.fused import cell_attention_fused
from mmeffvit.ops.cell_attention.reference import cell_attention_reference

__all__ = ["cell_attention"]

dispatch.register("cell_attention", "fused", cell_attention_fused)
dispatch.register("cell_attention", "reference", cell_attention_reference)


def cell_attention(
    q: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    valid: Tensor | None = None,
    *,
    implementation: str | None = None,
) -> Tensor:
    """Softmax attention of each query to the K candidates that are its own, projected here.

    ``k, v = x weight^T + bias`` per candidate, and per query and head::

        out = sum_j a_j v_j,  a = softmax over the K candidates of d^-1/2 q . k_j

    The projection is part of the operator because the fused form of it never makes k and v
    (README.md): the candidates of all queries are K maps.

    Args:
        q: (B, L, h, d) queries, as projected.
        x: (B, L, K, C) candidates of each query, before their projection.
        weight: (2 * h * d, C) of the projection to [k | v], each head-major.
        bias: (2 * h * d,) of the projection.
        valid: (L, K), False for candidates that are not there; each query needs one that is. None
            if all are.
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, L, h, d).

    Raises:
        ValueError: The shapes do not fit each other.
    """
    fits = q.dim() == 4 and x.dim() == 4 and q.shape[:2] == x.shape[:2]
    if fits:
        rows = 2 * q.shape[2] * q.shape[3]
        fits = tuple(weight.shape) == (rows, x.shape[3]) and tuple(bias.shape) == (rows,)
        fits = fits and (valid is None or valid.shape == x.shape[1:3])
    if not fits:
        shapes = [None if t is None else tuple(t.shape) for t in (q, x, weight, bias, valid)]
        raise ValueError(
            "cell_attention needs q (B, L, h, d), x (B, L, K, C), weight (2 * h * d, C), bias "
            f"(2 * h * d,) and valid (L, K) or None, got {', '.join(map(str, shapes))}"
        )
    return dispatch.run("cell_attention", implementation, q, x, weight, bias, valid)
