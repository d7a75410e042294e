"""The formula of attention in groups, with padding, mask and weights spelt out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.precision import full_dtype, in_full_precision


def to_groups(x: Tensor, group: tuple[int, int], interval: int) -> Tensor:
    """Cut a map into groups, with zeros below and to the right until they are full.

    Args:
        x: (B, H, W, ...).
        group: Rows r and columns c of a group.
        interval: Distance I between the tokens of a group.

    Returns:
        (B, groups, r * c, ...): regions row by row, in each the groups row by row.
    """
    sides = [n * interval for n in group]
    # counted so that a tracer can follow, to which the sizes of a map are expressions
    regions = [(length + side - 1) // side for length, side in zip(x.shape[1:3], sides)]
    missing = [n * side - length for n, side, length in zip(regions, sides, x.shape[1:3])]
    x = F.pad(x, (0, 0) * (x.dim() - 3) + (0, missing[1], 0, missing[0]))
    x = x.unflatten(2, (regions[1], group[1], interval))
    x = x.unflatten(1, (regions[0], group[0], interval))
    # (B, regions y, r, I, regions x, c, I, ...) -> (B, regions y, regions x, I, I, r, c, ...)
    x = x.permute(0, 1, 4, 3, 6, 2, 5, *range(7, x.dim()))
    return x.flatten(5, 6).flatten(1, 4)


def from_groups(
    groups: Tensor, size: tuple[int, int], group: tuple[int, int], interval: int
) -> Tensor:
    """The inverse of :func:`to_groups`: (B, H, W, ...), without what was padded."""
    regions = [(length + n * interval - 1) // (n * interval) for length, n in zip(size, group)]
    x = groups.unflatten(2, group).unflatten(1, (*regions, interval, interval))
    x = x.permute(0, 1, 5, 3, 2, 6, 4, *range(7, x.dim()))
    x = x.flatten(4, 6).flatten(1, 3)
    if torch.compiler.is_compiling():
        # how a slice lies in memory would say in the graph whether there was padding
        for axis, length in enumerate(size, 1):
            x = x.index_select(axis, torch.arange(length, device=x.device))
        return x
    return x[:, : size[0], : size[1]]


def padding_mask(
    size: tuple[int, int],
    group: tuple[int, int],
    interval: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """(groups, r * c): 0 for tokens, -inf for padding, and 0 in groups of padding alone."""
    real = to_groups(torch.ones(1, *size, dtype=dtype, device=device), group, interval)[0] > 0
    real = real | ~real.any(-1, keepdim=True)
    return torch.zeros(real.shape, dtype=dtype, device=device).masked_fill(~real, -torch.inf)


@in_full_precision
def group_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    interval: int = 1,
    *,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.group_attention`."""
    size, group = q.shape[1:3], bias.shape[1:3]
    q = q * (q.shape[-1] ** -0.5 if scale is None else scale)
    # (B, groups, h, r * c, d)
    q, k, v = (to_groups(t, group, interval).transpose(2, 3) for t in (q, k, v))
    added = bias.to(full_dtype(bias.dtype)).flatten(3, 4).flatten(1, 2)
    mask = padding_mask(size, group, interval, q.dtype, q.device)[:, None, None]
    weights = (q @ k.transpose(-1, -2) + added + mask).softmax(-1)
    return from_groups((weights @ v).transpose(2, 3), size, group, interval)
