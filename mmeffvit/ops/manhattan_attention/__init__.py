"""Manhattan self-attention (RMT, arXiv 2309.11523)."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.flex import BY_NAME
from mmeffvit.ops.manhattan_attention.decay import ManhattanDecay, decay_rates
from mmeffvit.ops.manhattan_attention.flex import manhattan_attention_flex, refuses
from mmeffvit.ops.manhattan_attention.fused import manhattan_attention_fused
from mmeffvit.ops.manhattan_attention.reference import manhattan_attention_reference
from mmeffvit.ops.shapes import check_qkv

__all__ = ["ManhattanDecay", "decay_rates", "manhattan_attention"]

dispatch.register("manhattan_attention", "fused", manhattan_attention_fused)
dispatch.register("manhattan_attention", "reference", manhattan_attention_reference)
dispatch.register("manhattan_attention", "flex", manhattan_attention_flex, refuses, BY_NAME)


def manhattan_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: ManhattanDecay,
    *,
    decomposed: bool = False,
    scale: float | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Softmax attention over a map whose logits fall with the Manhattan distance of the pixels.

    The full form adds ``rate * (|y - y'| + |x - x'|)`` to the logits between all pixels. The
    decomposed form first mixes the values along every row, with ``rate * |x - x'|``, then the
    result along every column, with ``rate * |y - y'|`` and the same queries and keys. The rate is
    negative and differs between heads.

    Gradients flow to q, k and v; the rates are constants. The fused full form has first derivatives
    only on maps too large for a mask of all pairs of pixels.

    Args:
        q: (B, L, h, d) queries, already rotated; the L = H * W tokens are in row-major order.
        k: (B, L, h, d) keys, already rotated, not scaled.
        v: (B, L, h, d) values.
        decay: Size of the map and the rate of each head; shared by calls on maps of one size.
        decomposed: Rows then columns, in place of all pixels at once.
        scale: Factor of the products of queries and keys; ``d ** -0.5`` if None.
        implementation: ``'fused'``, ``'reference'`` or, of the form named first, ``'flex'``; see
            `mmeffvit.ops.dispatch`.

    Returns:
        (B, L, h, d).

    Raises:
        ValueError: The shapes of q, k and v differ, are not (B, L, h, d), or are not those of
            `decay`.
    """
    check_qkv("manhattan_attention", q, k, v)
    if q.shape[1] != decay.height * decay.width or q.shape[2] != len(decay.rates):
        raise ValueError(
            f"the decay is that of {decay.height} x {decay.width} tokens and {len(decay.rates)} "
            f"heads, but q, k and v (B, L, h, d) are {tuple(q.shape)}"
        )
    options = {"decomposed": decomposed, "scale": scale}
    return dispatch.run("manhattan_attention", implementation, q, k, v, decay, **options)
