"""The formulas of Manhattan self-attention, with all weights spelt out."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops.manhattan_attention.decay import ManhattanDecay
from mmeffvit.ops.precision import in_full_precision


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention over the last axis but one of (..., h, n, d), with a mask (h, n, n)."""
    return (q @ k.transpose(-1, -2) + mask).softmax(-1) @ v


@in_full_precision
def manhattan_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: ManhattanDecay,
    *,
    decomposed: bool = False,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.manhattan_attention`."""
    k = k * (q.shape[-1] ** -0.5 if scale is None else scale)
    if not decomposed:
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return _attend(q, k, v, decay.full()).transpose(1, 2)
    # (B, L, h, d) -> (B, H, h, W, d) -> (B, W, h, H, d)
    q, k, v = (t.unflatten(1, (decay.height, decay.width)).transpose(2, 3) for t in (q, k, v))
    v = _attend(q, k, v, decay.along_width)
    q, k, v = (t.transpose(1, 3) for t in (q, k, v))
    v = _attend(q, k, v, decay.along_height)
    return v.permute(0, 3, 1, 2, 4).flatten(1, 2)
