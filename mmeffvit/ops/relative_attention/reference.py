"""The formula of attention with tables of offsets."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops.group_attention.reference import from_groups, padding_mask, to_groups
from mmeffvit.ops.precision import in_full, in_full_precision


def of_window(
    table: Tensor | None, window: tuple[int, int], size: tuple[int, int]
) -> Tensor | None:
    """The offsets that there are in a smaller window, of which every table has its own.

    Args:
        table: (h, 2 r - 1, 2 c - 1), or None.
        window: Rows r and columns c of the table's windows.
        size: Rows and columns of the smaller ones.
    """
    if table is None or window == size:
        return table
    rows, columns = (slice(whole - n, whole + n - 1) for whole, n in zip(window, size))
    return table[:, rows, columns]


def by_query_and_key(table: Tensor, size: tuple[int, int]) -> Tensor:
    """A table of offsets, (h, 2 r - 1, 2 c - 1), by query and key: (h, r c, r c).

    Args:
        table: By rows and columns of the key minus those of the query, from 1 - r and 1 - c on.
        size: Rows r and columns c.
    """
    rows, columns = (torch.arange(n, device=table.device) for n in size)
    dy = rows - rows[:, None] + size[0] - 1
    dx = columns - columns[:, None] + size[1] - 1
    index = dy[:, None, :, None] * (2 * size[1] - 1) + dx[None, :, None, :]
    return table.flatten(1)[:, index.flatten(2, 3).flatten(0, 1)]


@in_full_precision
def relative_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: tuple[int, int] | None = None,
    *,
    gain: Tensor | None = None,
    bias: Tensor | None = None,
    factor: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.relative_attention`."""
    size = q.shape[1:3]
    group = size if window is None else window
    gain, bias, factor = (
        None if table is None else by_query_and_key(in_full(table), group)
        for table in (gain, bias, factor)
    )
    q = q * (q.shape[-1] ** -0.5 if scale is None else scale)
    if window is None:
        q, k, v = (t.flatten(1, 2)[:, None] for t in (q, k, v))
    else:
        q, k, v = (to_groups(t, window, 1) for t in (q, k, v))
    q, k, v = (t.transpose(2, 3) for t in (q, k, v))  # (B, windows, h, r * c, d)
    logits = q @ k.transpose(-1, -2)
    if gain is not None:
        logits = logits * gain
    if bias is not None:
        logits = logits + bias
    if window is not None:
        logits = logits + padding_mask(size, window, 1, q.dtype, q.device)[:, None, None]
    weights = logits.softmax(-1)
    if factor is not None:
        weights = weights * factor
    out = (weights @ v).transpose(2, 3)
    if window is None:
        return out[:, 0].unflatten(1, size)
    return from_groups(out, size, window, 1)
