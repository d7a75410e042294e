"""Attention in groups without padding or weights in memory; derived in README.md beside it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.chunked_attention import chunked_attention
from mmeffvit.ops.group_attention.groups import Kind, map_groups
from mmeffvit.ops.group_attention.reference import from_groups, padding_mask, to_groups


class _Reorder(torch.autograd.Function):
    """Tokens of (B, L, ...) in another order; the gradient is read, not summed."""

    @staticmethod
    def forward(ctx, x: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ctx.order, ctx.back = order, back
        return x.index_select(1, order)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _Reorder.apply(grad, ctx.back, ctx.order), None, None


class _BiasMask:
    """A bias that all groups share, as the mask of `chunked_attention`.

    Args:
        bias: (h, n, n) added to the logits of the n tokens of a group.
    """

    samples = 1
    unit = 1

    def __init__(self, bias: Tensor):
        self.bias = bias
        self.grad = torch.zeros_like(bias)

    def write(self, out: Tensor, start: int, heads: slice) -> None:
        out.copy_(self.bias[heads, None, start : start + out.shape[2]])

    def collect(self, grad: Tensor, start: int, heads: slice) -> None:
        self.grad[heads, start : start + grad.shape[2]] += grad.sum(1)

    def gradients(self) -> tuple[Tensor, ...]:
        return (self.grad,)


def _padded(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, interval: int, scale: float) -> Tensor:
    """For graphs, in which the size of the map is no number: one call, on padded groups."""
    size, group = q.shape[1:3], bias.shape[1:3]
    batch = q.shape[0]
    mask = padding_mask(size, group, interval, q.dtype, q.device)[:, None, None]
    mask = mask + bias.flatten(3, 4).flatten(1, 2).to(q.dtype)
    q, k, v = (to_groups(t, group, interval).transpose(2, 3) for t in (q, k, v))
    mask = mask.expand(batch, *mask.shape).flatten(0, 1)
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    out = out.unflatten(0, (batch, -1)).transpose(2, 3)
    return from_groups(out, size, group, interval)


def attend_in_groups(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    group: tuple[int, int],
    interval: int,
    attend: Callable[[Kind, Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """Attention inside the groups of a map, those of equal sides at a time, without padding.

    Args:
        q: (B, H, W, h, d) queries.
        k: (B, H, W, h, d) keys.
        v: (B, H, W, h, d) values.
        group: Rows and columns of a full group.
        interval: Distance between the tokens of a group.
        attend: Of a kind of groups and their q, k and v, (B * groups, n, h, d), to what they read.
    """
    size = tuple(q.shape[1:3])
    groups = map_groups(size, group, interval, q.device)
    q, k, v = (_Reorder.apply(t.flatten(1, 2), groups.order, groups.back) for t in (q, k, v))
    parts = [t.split([kind.tokens for kind in groups.kinds], 1) for t in (q, k, v)]
    outs = []
    for kind, *tokens in zip(groups.kinds, *parts):
        # groups are samples
        own = (t.unflatten(1, (kind.count, -1)).flatten(0, 1) for t in tokens)
        outs.append(attend(kind, *own).unflatten(0, (-1, kind.count)).flatten(1, 2))
    return _Reorder.apply(torch.cat(outs, 1), groups.back, groups.order).unflatten(1, size)


def group_attention_fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    interval: int = 1,
    *,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.group_attention`."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if torch.compiler.is_compiling():
        return _padded(q, k, v, bias, interval, scale)

    def attend(kind: Kind, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # of a group that the edge cuts, the first rows and columns are there
        rows, columns = kind.size
        added = bias[:, :rows, :columns, :rows, :columns].flatten(3, 4).flatten(1, 2)
        return chunked_attention(q, k, v, scale, _BiasMask, added)

    return attend_in_groups(q, k, v, tuple(bias.shape[1:3]), interval, attend)
