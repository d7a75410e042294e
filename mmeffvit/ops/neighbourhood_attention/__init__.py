"""Neighbourhood attention (arXiv 2204.07143; dilated, arXiv 2209.15001) as SSViT uses it."""

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
from mmeffvit.ops.shapes import check_qkv

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
    scale: float | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Softmax attention of every query to the k_h x k_w tokens around it.

    On each axis of n positions, index i belongs to the phase ``i mod D`` and attends to
    ``kernel`` consecutive positions of its phase. The window is centred on i, and shifted at the
    borders so that it stays inside of the map: every query has equally many neighbours, and there
    is no padding. These are the windows of NATTEN.

    Differentiable once.

    Args:
        q: (B, H, W, h, d) queries.
        k: (B, H, W, h, d) keys.
        v: (B, H, W, h, d) values.
        kernel: Odd number of neighbours on both axes, or (rows, columns).
        dilation: Distance between neighbours on both axes, or (rows, columns).
        scale: Factor of the logits; ``d ** -0.5`` if None.
        implementation: ``'fused'``, ``'reference'`` or ``'natten'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, H, W, h, d).

    Raises:
        ValueError: Shapes differ, a kernel is even or not positive, a dilation is not positive, or
            ``kernel * dilation`` is larger than the map.
    """
    check_qkv("neighbourhood_attention", q, k, v, "(B, H, W, h, d)")
    kernel, dilation = _pair("kernel", kernel), _pair("dilation", dilation)
    if not torch.compiler.is_compiling():
        # a trace's sizes may be symbolic: its node checks them when it runs
        check_windows(q.shape[1:3], kernel, dilation)
    return dispatch.run(
        "neighbourhood_attention", implementation, q, k, v, kernel, dilation, scale=scale
    )


def _pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2:
        raise ValueError(f"{name} must be one number, or one for rows and one for columns: {value}")
    return pair
