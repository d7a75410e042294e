"""The formula of neighbourhood attention: gather the neighbours of every query, then softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops.precision import in_full_precision


def neighbour_positions(
    length: int, kernel: int, dilation: int, device: torch.device | str = "cpu"
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

    Returns:
        (n, k) int64, ascending in each row.
    """
    index = torch.arange(length, device=device)
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
    return (rows[:, None, :, None] * width + columns[None, :, None, :]).reshape(height * width, -1)


@in_full_precision
def neighbourhood_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    *,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.neighbourhood_attention`."""
    _, height, width, _, head_dim = q.shape
    scale = head_dim**-0.5 if scale is None else scale
    tokens = neighbour_tokens(height, width, kernel, dilation, q.device)
    q = q.flatten(1, 2)
    # (B, L, k*k, h, d)
    keys, values = (t.flatten(1, 2)[:, tokens] for t in (k, v))
    logits = torch.einsum("blhd,blnhd->blhn", q * scale, keys)
    out = torch.einsum("blhn,blnhd->blhd", logits.softmax(-1), values)
    return out.unflatten(1, (height, width))
