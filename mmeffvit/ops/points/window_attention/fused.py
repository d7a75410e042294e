"""Padded windows and factored tables: nothing of the size (pairs, h, d), nothing per pair kept.

Derived in README.md beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops.points.windows import RelativeWindows
from mmeffvit.ops.precision import autocast_disabled, in_full

#: numbers of the largest tensor of a chunk
_CHUNK_NUMBERS = {"cpu": 2**19, "cuda": 2**25}


def window_attention_fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_table: Tensor,
    k_table: Tensor,
    v_table: Tensor,
    windows: RelativeWindows,
) -> Tensor:
    """See :func:`mmeffvit.ops.points.window_attention`."""
    dtype = q.dtype
    with autocast_disabled(q.device.type):
        qkv = in_full(torch.stack((q, k, v), dim=1))
        tables = torch.stack(
            [_reachable(table, windows) for table in (q_table, k_table, v_table)]
        ).to(qkv.dtype)
        # (P, 3, h, d) -> (3, h, P, d)
        slots = windows.layout.gather(qkv).permute(1, 2, 0, 3).contiguous()
        out = _PaddedAttention.apply(slots, tables, windows)
        return windows.layout.scatter(out.permute(1, 0, 2).contiguous()).to(dtype)


def _reachable(table: Tensor, windows: RelativeWindows) -> Tensor:
    """(2G-1, 3, h, d) -> (h, R, d): for every axis, the rows that its differences can reach."""
    zero = windows.num_bins - 1
    parts = [table[zero - n + 1 : zero + n, axis] for axis, n in enumerate(windows.spans)]
    return torch.cat(parts).transpose(0, 1)


class _PaddedAttention(torch.autograd.Function):
    """(3, h, P, d) q, k, v in slots and (3, h, R, d) tables to (h, P, d).

    The backward pass computes the weights again, chunk by chunk.
    """

    @staticmethod
    def forward(ctx, slots: Tensor, tables: Tensor, windows: RelativeWindows) -> Tensor:
        ctx.save_for_backward(slots, tables)
        ctx.windows = windows
        out = torch.empty_like(slots[0])
        for chunk in _chunks(windows, slots, tables):
            out[:, chunk.queries] = chunk.forward().flatten(1, 2)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        slots, tables = ctx.saved_tensors
        grad_slots, grad_tables = torch.zeros_like(slots), torch.zeros_like(tables)
        for chunk in _chunks(ctx.windows, slots, tables):
            chunk.backward(grad, grad_slots, grad_tables)
        return grad_slots, grad_tables, None


def _chunks(windows: RelativeWindows, slots: Tensor, tables: Tensor) -> Iterator[_Chunk]:
    """Windows of one size, as many as fit; a window too large goes by some queries at a time."""
    heads, reach = tables.shape[1], tables.shape[2]
    limit = _CHUNK_NUMBERS.get(slots.device.type, _CHUNK_NUMBERS["cuda"]) // heads
    bins = torch.cat((windows.bins, windows.bins.new_zeros(1, 3)))[windows.layout.slots]
    padding = windows.layout.slots == len(windows.window)
    start = 0
    for count, size in windows.layout.buckets:
        numbers = size * max(size, reach)
        together = max(1, limit // numbers)
        queries = max(1, min(size, limit // max(size, reach)))
        for first in range(0, count, together):
            number = min(together, count - first)
            begin = start + first * size
            keys = slice(begin, begin + number * size)
            for query in range(0, size, queries):
                # a part of the queries only where there is one window
                rows = keys
                if queries < size:
                    rows = slice(begin + query, begin + min(query + queries, size))
                yield _Chunk(windows, slots, tables, bins, padding, number, rows, keys)
        start += count * size


class _Chunk:
    """Attention of n windows: queries (h, n, Lq, d), keys (h, n, L, d)."""

    def __init__(
        self,
        windows: RelativeWindows,
        slots: Tensor,
        tables: Tensor,
        bins: Tensor,
        padding: Tensor,
        number: int,
        queries: slice,
        keys: slice,
    ):
        self.queries, self.keys, self.number = queries, keys, number
        self.q = self._windows(slots[0], queries)
        self.k, self.v = (self._windows(part, keys) for part in (slots[1], slots[2]))
        self.q_table, self.k_table, self.v_table = tables.unbind(0)
        query_bins, key_bins = (bins[part].view(number, -1, 3) for part in (queries, keys))
        # row of the joined tables for each axis: (1, n, Lq, L), the same for all heads
        self.rows, offset = [], -1
        for axis, span in enumerate(windows.spans):
            rows = query_bins[:, :, None, axis] - key_bins[:, None, :, axis] + (offset + span)
            self.rows.append(rows.expand(len(tables[0]), -1, -1, -1))
            offset += 2 * span - 1
        masked = padding[keys].view(1, number, 1, -1)
        self.weights = self._logits().masked_fill_(masked, -torch.inf).softmax(-1)

    def _windows(self, x: Tensor, rows: slice) -> Tensor:
        """(h, P, d) -> (h, n, L, d)."""
        return x[:, rows].unflatten(1, (self.number, -1))

    def _logits(self) -> Tensor:
        logits = self.q @ self.k.transpose(-1, -2)
        by_query, by_key = _against(self.q, self.q_table), _against(self.k, self.k_table)
        for rows in self.rows:
            logits += by_query.gather(-1, rows)
            logits += by_key.gather(-1, rows.transpose(-1, -2)).transpose(-1, -2)
        return logits

    def forward(self) -> Tensor:
        """(h, n, Lq, d)."""
        return self.weights @ self.v + _times(self._histogram(self.weights), self.v_table)

    def backward(self, grad: Tensor, grad_slots: Tensor, grad_tables: Tensor) -> None:
        """Add to the gradients of all slots and tables."""
        grad = self._windows(grad, self.queries)
        grad_weights = grad @ self.v.transpose(-1, -2)
        by_query = _against(grad, self.v_table)
        for rows in self.rows:
            grad_weights += by_query.gather(-1, rows)
        weights = self.weights
        mean = (grad_weights * weights).sum(-1, keepdim=True)
        grad_logits = grad_weights.sub_(mean).mul_(weights)

        def add(part: int, slots: slice, value: Tensor) -> None:
            grad_slots[part, :, slots] += value.flatten(1, 2)

        by_query, by_key = self._histogram(grad_logits), self._histogram(grad_logits, of_keys=True)
        add(0, self.queries, grad_logits @ self.k + _times(by_query, self.q_table))
        transposed = grad_logits.transpose(-1, -2)
        add(1, self.keys, transposed @ self.q + _times(by_key, self.k_table))
        add(2, self.keys, weights.transpose(-1, -2) @ grad)
        for part, histogram, rows in (
            (0, by_query, self.q),
            (1, by_key, self.k),
            (2, self._histogram(weights), grad),
        ):
            grad_tables[part] += histogram.flatten(1, 2).transpose(1, 2) @ rows.flatten(1, 2)

    def _histogram(self, values: Tensor, of_keys: bool = False) -> Tensor:
        """Sums of (h, n, Lq, L) by row of the tables: (h, n, Lq, R), or (h, n, L, R) of keys."""
        tables = self.rows
        if of_keys:
            values, tables = values.transpose(-1, -2), [t.transpose(-1, -2) for t in tables]
        sums = values.new_zeros((*values.shape[:-1], self.q_table.shape[1]))
        for rows in tables:
            sums.scatter_add_(-1, rows, values)
        return sums


def _against(x: Tensor, table: Tensor) -> Tensor:
    """Products of (h, n, L, d) rows with all (h, R, d) rows of a table: (h, n, L, R)."""
    return (x.flatten(1, 2) @ table.transpose(1, 2)).unflatten(1, x.shape[1:3])


def _times(histogram: Tensor, table: Tensor) -> Tensor:
    """(h, n, L, R) weights of the (h, R, d) rows of a table: (h, n, L, d)."""
    return (histogram.flatten(1, 2) @ table).unflatten(1, histogram.shape[1:3])
