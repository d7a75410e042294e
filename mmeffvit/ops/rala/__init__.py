"""The two attentions of RAVLT (arXiv 2411.07635, section 3): rank-augmented linear, softmax.

And plain linear attention (arXiv 2006.16236), which the first one is with equal weights.
"""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.rala.fused import (
    linear_attention_fused,
    rank_augmented_linear_attention_fused,
    rotary_softmax_attention_fused,
)
from mmeffvit.ops.rala.reference import (
    linear_attention_reference,
    rala_token_weights,
    rank_augmented_linear_attention_reference,
    rotary_softmax_attention_reference,
)
from mmeffvit.ops.shapes import check_qkv

__all__ = [
    "linear_attention",
    "rala_token_weights",
    "rank_augmented_linear_attention",
    "rotary_softmax_attention",
]

_LINEAR, _SOFTMAX = "rank_augmented_linear_attention", "rotary_softmax_attention"
dispatch.register("linear_attention", "fused", linear_attention_fused)
dispatch.register("linear_attention", "reference", linear_attention_reference)
dispatch.register(_LINEAR, "fused", rank_augmented_linear_attention_fused)
dispatch.register(_LINEAR, "reference", rank_augmented_linear_attention_reference)
dispatch.register(_SOFTMAX, "fused", rotary_softmax_attention_fused)
dispatch.register(_SOFTMAX, "reference", rotary_softmax_attention_reference)


def _check_shapes(op: str, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> None:
    check_qkv(op, q, k, v)
    expected = (q.shape[1], q.shape[3] // 2, 2)
    if tuple(table.shape) != expected or q.shape[3] % 2:
        raise ValueError(
            f"{op} needs a rotary table of shape {expected} for tokens of shape "
            f"{tuple(q.shape)}, got {tuple(table.shape)}; make it with rotary_table_2d"
        )


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-6, implementation: str | None = None
) -> Tensor:
    """Linear attention; cost grows linearly with L.

    With ``p(x) = ELU(x) + 1`` (arXiv 2006.16236), per sample and head, and means over all tokens::

        out_i = p(q_i)^T mean_j(p(k_j) v_j^T) / (p(q_i) . mean_j p(k_j) + eps)

    Means in the place of sums give the same quotient, and do not grow with the map.

    Args:
        q: (B, L, h, d) queries as projected, not yet positive.
        k: (B, L, h, d) keys, likewise.
        v: (B, L, h, d) values.
        eps: Added to the normaliser.
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`. The fused one
            computes in float32 under any autocast; its gradient cannot be differentiated again.

    Returns:
        (B, L, h, d).

    Raises:
        ValueError: The shapes of q, k and v differ or are not (B, L, h, d).
    """
    check_qkv("linear_attention", q, k, v)
    return dispatch.run("linear_attention", implementation, q, k, v, eps=eps)


def rank_augmented_linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor,
    *,
    eps: float = 1e-6,
    implementation: str | None = None,
) -> Tensor:
    """Linear attention whose keys are weighted by the mean query; cost grows linearly with L.

    With ``p(x) = ELU(x) + 1``, ``rot`` the rotation by position, and per sample and head::

        a_j   = softmax over j of (d^-1/2 mean_i p(q_i) . p(k_j))
        out_i = rot(p(q_i))^T (sum_j a_j rot(p(k_j)) v_j^T) / (p(q_i) . sum_j a_j p(k_j) + eps)

    The weights a raise the rank of the d x d state. Positions enter the numerator only.

    Args:
        q: (B, L, h, d) queries as projected: neither positive nor rotated.
        k: (B, L, h, d) keys, likewise.
        v: (B, L, h, d) values.
        table: (L, d/2, 2) of `mmeffvit.ops.rotary_table_2d`.
        eps: Added to the normaliser.
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`. The fused one
            computes in float32 under any autocast; its gradient cannot be differentiated again.

    Returns:
        (B, L, h, d).

    Raises:
        ValueError: The shapes of q, k and v differ or are not (B, L, h, d), or the table is for
            other sizes.
    """
    _check_shapes(_LINEAR, q, k, v, table)
    return dispatch.run(_LINEAR, implementation, q, k, v, table, eps=eps)


def rotary_softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, *, implementation: str | None = None
) -> Tensor:
    """Softmax attention over all tokens: ``softmax(d^-1/2 rot(q) rot(k)^T) v``.

    The fused one keeps O(L d) numbers per head for the backward pass, the reference L x L.

    Args:
        q: (B, L, h, d) queries as projected, not rotated.
        k: (B, L, h, d) keys, likewise.
        v: (B, L, h, d) values.
        table: (L, d/2, 2) of `mmeffvit.ops.rotary_table_2d`.
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, L, h, d).

    Raises:
        ValueError: As for :func:`rank_augmented_linear_attention`.
    """
    _check_shapes(_SOFTMAX, q, k, v, table)
    return dispatch.run(_SOFTMAX, implementation, q, k, v, table)
