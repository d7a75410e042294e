"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, section 4.1, equation 3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.deformable_attention.fused import deformable_attention_fused
from mmeffvit.ops.deformable_attention.reference import deformable_attention_reference
from mmeffvit.ops.precision import autocast_disabled, in_full

__all__ = ["deformable_attention"]

_OP = "deformable_attention"
dispatch.register(_OP, "fused", deformable_attention_fused)
dispatch.register(_OP, "reference", deformable_attention_reference)


def _check_shapes(
    values: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> None:
    tokens = sum(height * width for height, width in shapes)
    if values.dim() != 4 or values.shape[1] != tokens:
        raise ValueError(
            f"{_OP} needs values of shape (B, S, h, d) with S = {tokens}, the pixels of levels "
            f"of {', '.join(f'{h} x {w}' for h, w in shapes)}; got {tuple(values.shape)}"
        )
    batch, _, heads, _ = values.shape
    if (
        weights.dim() != 5
        or (weights.shape[0], *weights.shape[2:4]) != (batch, heads, len(shapes))
        or locations.shape != (*weights.shape, 2)
    ):
        raise ValueError(
            f"{_OP} needs weights of shape (B, Q, h, V, P) and locations of shape "
            f"(B, Q, h, V, P, 2), here with B = {batch}, h = {heads} and V = {len(shapes)}; got "
            f"{tuple(weights.shape)} and {tuple(locations.shape)}"
        )


def deformable_attention(
    values: Tensor,
    shapes: Sequence[tuple[int, int]],
    locations: Tensor,
    weights: Tensor,
    *,
    implementation: str | None = None,
) -> Tensor:
    """Weighted sum of bilinear samples from several maps: cost grows linearly with the queries.

    With ``v_l`` the map of level l, read between its pixels and zero outside of it::

        out_q = sum over levels l and points p of weights_qlp v_l(locations_qlp)

    B batch, S pixels of all levels, Q queries, h heads, d head dim, V levels, P points. Computed in
    float32 at least, under any autocast: coordinates need more than the 8 or 11 bits of half types.

    Args:
        values: (B, S, h, d), one level after the other, each in row-major order.
        shapes: H and W of every level; their products add up to S.
        locations: (B, Q, h, V, P, 2), **x before y**, in units of the level's width and height: 0
            and 1 are its outer edges, the centre of pixel i of n lies at (i + 1/2) / n.
        weights: (B, Q, h, V, P), of any sum.
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`. Where mmcv has
            its compiled operators, ``mmeffvit.compat.setup()`` adds ``'mmcv'``, to be asked for by
            name on CUDA devices. Gradients of the fused one cannot be differentiated again.

    Returns:
        (B, Q, h, d) in the type of values.

    Raises:
        ValueError: The shapes do not fit each other.
    """
    _check_shapes(values, shapes, locations, weights)
    full = map(in_full, (locations, weights))
    with autocast_disabled(values.device.type):
        out = dispatch.run(_OP, implementation, in_full(values), shapes, *full)
    return out.to(values.dtype)
