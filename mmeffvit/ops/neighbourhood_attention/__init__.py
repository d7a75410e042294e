"""Neighbourhood attention (arXiv 2204.07143; dilated, arXiv 2209.15001)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.neighbourhood_attention import compiled, natten
from mmeffvit.ops.neighbourhood_attention.fused import neighbourhood_attention_fused
from mmeffvit.ops.neighbourhood_attention.reference import (
    neighbour_positions,
    neighbour_tokens,
    neighbourhood_attention_reference,
)
from mmeffvit.ops.neighbourhood_attention.tiles import check_windows

__all__ = ["neighbour_positions", "neighbour_tokens", "neighbourhood_attention"]

dispatch.register(
    "neighbourhood_attention", "fused", neighbourhood_attention_fused, compiled.refuses
)
dispatch.register("neighbourhood_attention", "reference", neighbourhood_attention_reference)
dispatch.register(
    "neighbourhood_attention", "natten", natten.neighbourhood_attention_natten, natten.refuses
)


def neighbourhood_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kernel: int | Sequence[int],
    dilation: int | Sequence[int] = 1,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Softmax attention of every query to the k_h x k_w tokens around it.

    On each axis of n positions, index i belongs to the phase ``i mod D`` and attends to
    ``kernel`` consecutive positions of its phase. The window is centred on i, and shifted at the
    borders so that it stays inside of the map: every query has equally many neighbours, and there
    is no padding. These are the windows of NATTEN.

    Keys and values may be those of a larger map, whose top left the queries are: of a map that was
    padded until windows fit. Differentiable once.

    Args:
        q: (B, H, W, h, d) queries.
        k: (B, H', W', h, d) keys, H' >= H and W' >= W.
        v: (B, H', W', h, d) values.
        kernel: Odd number of neighbours on both axes, or (rows, columns).
        dilation: Distance between neighbours on both axes, or (rows, columns).
        bias: (h, 2 k_h - 1, 2 k_w - 1) added to the logits, by the rank of the key minus that of
            the query plus ``kernel - 1`` on each axis; ranks count the positions of a phase.
        scale: Factor of the products of queries and keys; ``d ** -0.5`` if None.
        implementation: ``'fused'``, ``'reference'`` or ``'natten'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, H, W, h, d).

    Raises:
        ValueError: Shapes do not fit each other, a kernel is even or not positive, a dilation is
            not positive, or ``kernel * dilation`` is larger than the map of the keys.
    """
    kernel, dilation = _pair("kernel", kernel), _pair("dilation", dilation)
    _check_shapes(q, k, v, kernel, bias)
    if not torch.compiler.is_compiling():
        # a trace's sizes may be symbolic: its node checks them when it runs
        check_windows(q.shape[1:3], k.shape[1:3], kernel, dilation)
    arguments = (q, k, v, kernel, dilation)
    return dispatch.run(
        "neighbourhood_attention", implementation, *arguments, bias=bias, scale=scale
    )


def _check_shapes(
    q: Tensor, k: Tensor, v: Tensor, kernel: tuple[int, int], bias: Tensor | None
) -> None:
    same = k.shape == v.shape and q.shape[:1] + q.shape[3:] == k.shape[:1] + k.shape[3:]
    if not q.dim() == k.dim() == 5 or not same:
        raise ValueError(
            "neighbourhood_attention needs q, k and v of one shape (B, H, W, h, d), or k and v of "
            f"a larger map, got {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    expected = (q.shape[3], 2 * kernel[0] - 1, 2 * kernel[1] - 1)
    if bias is not None and tuple(bias.shape) != expected:
        raise ValueError(
            f"the bias of {q.shape[3]} heads and a kernel {kernel} must be {expected}, got "
            f"{tuple(bias.shape)}"
        )


def _pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2:
        raise ValueError(f"{name} must be one number, or one for rows and one for columns: {value}")
    return pair
