"""The formula of neighbourhood attention: gather the neighbours of every query, then softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops.precision import in_full_precision


def neighbour_positions(
    length: int,
    kernel: int,
    dilation: int,
    device: torch.device | str = "cpu",
    queries: int | None = None,
) -> Tensor:
    """Positions that each index of an axis attends to; the window never leaves the axis.

    Index i has phase ``i mod D`` and rank ``i // D`` among the positions of its phase. Its window
    are ``kernel`` consecutive ranks around its own, shifted at the borders so that all exist.

    >>> neighbour_positions(5, 3, 1).tolist()
    [[0, 1, 2], [0, 1, 2], [1, 2, 3], [2, 3, 4], [2, 3, 4]]

    Args:
        length: Size n of the axis, at least ``kernel * dilation``.
        kernel: Odd number of neighbours k.
        dilation: Distance D between neighbours.
        device: Where the result lives.
        queries: Of how many indices, from the first on; all if None.

    Returns:
        (queries, k) int64, ascending in each row.
    """
    index = torch.arange(length if queries is None else queries, device=device)
    rank = index // dilation
    # not `index % dilation`, which ONNX has for dilations known in advance only
    phase = index - rank * dilation
    phase_length = (length - phase + dilation - 1) // dilation
    first = torch.minimum((rank - (kernel - 1) // 2).clamp_min(0), phase_length - kernel)
    return (first[:, None] + torch.arange(kernel, device=device)) * dilation + phase[:, None]


def neighbour_tokens(
    height: int,
    width: int,
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    device: torch.device | str = "cpu",
) -> Tensor:
    """Row-major tokens that each token of a map attends to: (H*W, k_h*k_w), rows slowest."""
    rows = neighbour_positions(height, kernel[0], dilation[0], device)
    columns = neighbour_positions(width, kernel[1], dilation[1], device)
    return _tokens(rows, columns, width)


def _tokens(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    tokens = rows[:, None, :, None] * width + columns[None, :, None, :]
    # not len(), which binds a trace to one size
    return tokens.reshape(rows.shape[0] * columns.shape[0], -1)


@in_full_precision
def neighbourhood_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.neighbourhood_attention`."""
    height, width, _, head_dim = q.shape[1:]
    scale = head_dim**-0.5 if scale is None else scale
    # of the map of the keys, whose top left the queries are
    rows, columns = (
        neighbour_positions(*axis[:3], q.device, queries=axis[3])
        for axis in zip(k.shape[1:3], kernel, dilation, (height, width))
    )
    tokens = _tokens(rows, columns, k.shape[2])
    q = q.flatten(1, 2)
    # (B, L, k*k, h, d)
    keys, values = (t.flatten(1, 2)[:, tokens] for t in (k, v))
    logits = torch.einsum("blhd,blnhd->blhn", q * scale, keys)
    if bias is not None:
        rows, columns = (
            (places - torch.arange(places.shape[0], device=q.device)[:, None]) // step + size - 1
            for places, step, size in zip((rows, columns), dilation, kernel)
        )
        # (h, H, W, k_h, k_w) -> (L, h, k*k)
        bias = bias[:, rows[:, None, :, None], columns[None, :, None, :]]
        logits = logits + bias.flatten(3).flatten(1, 2).transpose(0, 1)
    out = torch.einsum("blhn,blnhd->blhd", logits.softmax(-1), values)
    return out.unflatten(1, (height, width))
