"""Neighbourhood attention (arXiv 2204.07143; dilated, arXiv 2209.15001)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.flex import BY_NAME
from mmeffvit.ops.neighbourhood_attention import compiled, flex, natten
from mmeffvit.ops.neighbourhood_attention.fused import neighbourhood_attention_fused
from mmeffvit.ops.neighbourhood_attention.reference import (
    neighbour_positions,
    neighbour_tokens,
    neighbourhood_attention_reference,
)
from mmeffvit.ops.neighbourhood_attention.tiled import neighbourhood_attention_tiled
from mmeffvit.ops.neighbourhood_attention.tiles import check_windows
from mmeffvit.ops.tables import refuse_jit_trace

__all__ = ["neighbour_positions", "neighbour_tokens", "neighbourhood_attention"]

dispatch.register(
    "neighbourhood_attention", "fused", neighbourhood_attention_fused, compiled.refuses
)
dispatch.register("neighbourhood_attention", "reference", neighbourhood_attention_reference)
dispatch.register(
    "neighbourhood_attention",
    "natten",
    natten.neighbourhood_attention_natten,
    natten.refuses,
    "its results are those of NATTEN's kernels, which have not been run here",
)
dispatch.register(
    "neighbourhood_attention", "flex", flex.neighbourhood_attention_flex, flex.refuses, BY_NAME
)
dispatch.register(
    "neighbourhood_attention", "tiled", neighbourhood_attention_tiled, by_name="it is for export"
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
    border: str = "shift",
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
        border: ``'shift'``: as above. ``'zeros'``: windows stay centred, and places beyond the map
            of the queries have keys and values of zeros, which take part in the softmax
            (convolutions with attention, arXiv 2310.04134); any map will do.
        implementation: ``'fused'``, ``'reference'``, ``'natten'``, ``'flex'``, or ``'tiled'``,
            which is for export; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, H, W, h, d).

    Raises:
        ValueError: Shapes do not fit each other, a kernel is even or not positive, a dilation is
            not positive, ``kernel * dilation`` is larger than the map of the keys, or the border is
            another.
    """
    if border not in ("shift", "zeros"):
        raise ValueError(f"border must be 'shift' or 'zeros', got {border!r}")
    kernel, dilation = _pair("kernel", kernel), _pair("dilation", dilation)
    _check_shapes(q, k, v, kernel, bias)
    height, width = q.shape[1:3]
    before = [d * (side // 2) if border == "zeros" else 0 for side, d in zip(kernel, dilation)]
    if border == "zeros":
        q, k, v = _framed(q, k[:, :height, :width], v[:, :height, :width], before, dilation)
    if not torch.compiler.is_compiling():
        # a trace's sizes may be symbolic: its node checks them when it runs
        check_windows(q.shape[1:3], k.shape[1:3], kernel, dilation)
    arguments = (q, k, v, kernel, dilation)
    out = dispatch.run(
        "neighbourhood_attention", implementation, *arguments, bias=bias, scale=scale
    )
    return out if border == "shift" else out[:, before[0] :, before[1] :]


def _framed(
    q: Tensor, k: Tensor, v: Tensor, before: Sequence[int], dilation: tuple[int, int]
) -> tuple[Tensor, ...]:
    """Zeros around keys and values, so wide that no window of an inner query is shifted.

    Queries get those above and on the left alone: they are the top left of the map of the keys.
    """
    if not torch.compiler.is_compiling():
        refuse_jit_trace()
    # on an axis shorter than the dilation not all phases are there: the frame is longer at its end
    after = [n + torch.sym_max(0, d - side) for n, d, side in zip(before, dilation, q.shape[1:3])]
    around = (0, 0, 0, 0, before[1], after[1], before[0], after[0])
    q = F.pad(q, (0, 0, 0, 0, before[1], 0, before[0], 0))
    return q, F.pad(k, around), F.pad(v, around)


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
