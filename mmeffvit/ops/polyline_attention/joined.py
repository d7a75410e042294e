"""Both polylines of the whole form at once, on a CPU: they share the products; see README.md."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops import chunked_attention as chunks
from mmeffvit.ops.polyline_attention.reference import line_masks, signs
from mmeffvit.ops.precision import autocast_enabled


def can_join(q: Tensor) -> bool:
    """Whether products are as fast outside of `scaled_dot_product_attention` as in it."""
    full = q.dtype in (torch.float32, torch.float64)
    return q.device.type == "cpu" and full and not autocast_enabled("cpu")


def joined_attention(
    q: Tensor, k: Tensor, v: Tensor, row_sums: Tensor, column_sums: Tensor, scale: float
) -> Tensor:
    """The whole form; first derivatives only.

    Args:
        q: (B, L, h, d) queries.
        k: (B, L, h, d) keys.
        v: (B, L, h, d) values.
        row_sums: (B, h, H, W) sums of the steps along rows.
        column_sums: (B, h, H, W) sums of the steps along columns.
        scale: Factor of the products of queries and keys.
    """
    # each head of each sample is one of N = B h
    tokens = (t.transpose(1, 2).flatten(0, 1) for t in (q * scale, k, v))
    out = _Joined.apply(*tokens, row_sums.flatten(0, 1), column_sums.flatten(0, 1))
    return out.unflatten(0, (q.shape[0], q.shape[2])).transpose(1, 2)


class _Chunk:
    """Weights of some queries, whole rows of the map, for some of the N heads.

    Args:
        heads: Which heads.
        rows: Which rows of the map.
        in_rows: (n, H, W, W) masks inside rows: by row, then between columns.
        in_columns: (n, H, H, W) masks inside columns: between rows, then by column.
        memory: Four flat pieces of memory.
    """

    def __init__(self, heads: slice, rows: slice, in_rows: Tensor, in_columns: Tensor, memory):
        self.heads = heads
        self.rows = rows
        height, width = in_columns.shape[2:]
        self.tokens = slice(rows.start * width, rows.stop * width)
        self.in_rows, self.in_columns = in_rows, in_columns[:, rows]
        shape = len(in_rows), rows.stop - rows.start, width, height, width
        # (n, y1, x1, y2, x2)
        self.buffers = [chunks._buffer(piece, *shape) for piece in memory]

    def flat(self, weights: Tensor) -> Tensor:
        """(n, y1, x1, y2, x2) as (n, queries, keys)."""
        return weights.flatten(3, 4).flatten(1, 2)

    def weights(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The weights of both polylines, and two buffers that are free."""
        logits, other, first, second = self.buffers
        torch.bmm(q[self.heads, self.tokens], k[self.heads].transpose(1, 2), out=self.flat(logits))
        torch.add(logits, self.in_rows[:, self.rows, :, None], out=other)
        other.add_(self.in_columns[:, :, None])
        torch.softmax(self.flat(other), -1, out=self.flat(first))
        logits.add_(self.in_rows.transpose(1, 2)[:, None])
        logits.add_(self.in_columns.transpose(2, 3)[..., None])
        torch.softmax(self.flat(logits), -1, out=self.flat(second))
        return first, second, logits, other


def _in_chunks(row_sums: Tensor, column_sums: Tensor, pieces: int) -> Iterator[_Chunk]:
    total, height, width = row_sums.shape
    tokens = height * width
    budget = chunks._queries_per_chunk(row_sums.device, tokens, width)
    rows = min(height, budget // width)
    group = min(total, max(1, budget // tokens))
    memory = [row_sums.new_empty(group * rows * width * tokens) for _ in range(pieces)]
    for head in range(0, total, group):
        heads = slice(head, min(head + group, total))
        in_rows = line_masks(row_sums[heads])
        columns = column_sums[heads]
        in_columns = (columns[:, :, None] - columns[:, None]).abs_().neg_()
        for row in range(0, height, rows):
            yield _Chunk(heads, slice(row, min(row + rows, height)), in_rows, in_columns, memory)


class _Joined(torch.autograd.Function):
    """(N, L, d) queries, keys and values, and (N, H, W) sums, to (N, L, d)."""

    @staticmethod
    def forward(ctx, q, k, v, row_sums, column_sums):
        out = torch.empty_like(v)
        for chunk in _in_chunks(row_sums, column_sums, 4):
            first, second, *_ = chunk.weights(q, k)
            both = chunk.flat(first.add_(second))
            out[chunk.heads, chunk.tokens] = both @ v[chunk.heads]
        ctx.save_for_backward(q, k, v, row_sums, column_sums)
        return out.div_(2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        q, k, v, row_sums, column_sums = ctx.saved_tensors
        grad = grad / 2
        grads = [torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)]
        of_rows, of_columns = torch.zeros_like(row_sums), torch.zeros_like(column_sums)
        in_rows = in_columns = None
        for chunk in _in_chunks(row_sums, column_sums, 4):
            if chunk.rows.start == 0:
                in_rows = torch.zeros_like(chunk.in_rows)
                in_columns = in_rows.new_empty(*in_rows.shape[:2], *column_sums.shape[1:])
            heads, tokens = chunk.heads, chunk.tokens
            first, second, of_weights, other = chunk.weights(q, k)
            grad_out = grad[heads, tokens]
            torch.add(first, second, out=other)
            grads[2][heads].baddbmm_(chunk.flat(other).transpose(1, 2), grad_out)
            torch.bmm(grad_out, v[heads].transpose(1, 2), out=chunk.flat(of_weights))
            of_first = _through_softmax(first, of_weights, other, chunk)
            in_rows[:, chunk.rows] += of_first.sum(3)
            in_columns[:, chunk.rows] = of_first.sum(2)
            of_second = _through_softmax(second, of_weights, first, chunk)
            in_rows += of_second.sum(1).transpose(1, 2)
            in_columns[:, chunk.rows] += of_second.sum(4).transpose(2, 3)
            of_logits = chunk.flat(of_first.add_(of_second))
            grads[0][heads, tokens] = of_logits @ k[heads]
            grads[1][heads].baddbmm_(of_logits.transpose(1, 2), q[heads, tokens])
            if chunk.rows.stop == row_sums.shape[1]:
                in_rows *= signs(in_rows.shape[2], in_rows)
                in_columns *= signs(in_columns.shape[1], in_columns)[:, :, None]
                of_rows[heads] = in_rows.sum(3) - in_rows.sum(2)
                of_columns[heads] = in_columns.sum(2) - in_columns.sum(1)
        return *grads, of_rows, of_columns


def _through_softmax(weights: Tensor, of_weights: Tensor, out: Tensor, chunk: _Chunk) -> Tensor:
    """The gradient of logits, from that of their softmax."""
    torch.mul(weights, of_weights, out=out)
    centre = chunk.flat(out).sum(-1, keepdim=True)
    chunk.flat(out).addcmul_(chunk.flat(weights), centre, value=-1)
    return out
