"""Both polylines of the whole form at once, on a CPU: they share the products; see README.md."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops import chunked_attention as chunks
from mmeffvit.ops.polyline_attention.reference import line_masks, signs
from mmeffvit.ops.polyline_attention.weights import through_softmax, to_weights

#: weights of one row of queries, above which it is cut
_LARGEST_ROW = 2**21


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


class _Tables(NamedTuple):
    """What is added to the logits of n heads, or its gradients: two tables for each polyline.

    Attributes:
        row_first: (n, L, 1, x2), for the row of the query.
        then_column: (n, y1, 1, L), for the column of the key.
        column_first: (n, L, y2, 1), for the column of the query.
        then_row: (n, 1, x1, L), for the row of the key.
    """

    row_first: Tensor
    then_column: Tensor
    column_first: Tensor
    then_row: Tensor

    @classmethod
    def of(cls, row_sums: Tensor, column_sums: Tensor) -> _Tables:
        """Those of (n, H, W) sums."""
        in_rows = line_masks(row_sums)  # (n, y, x1, x2)
        in_columns = -(column_sums[:, :, None] - column_sums[:, None]).abs()  # (n, y1, y2, x)
        return cls(
            in_rows.flatten(1, 2)[:, :, None],
            in_columns.flatten(2, 3)[:, :, None],
            in_columns.transpose(2, 3).flatten(1, 2)[..., None],
            in_rows.transpose(1, 2).flatten(2, 3)[:, None],
        )

    def gradients(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Of gradients of the tables, those of the sums, on a map of this size."""
        size = height, width
        in_rows = self.row_first.view(-1, height, width, width)
        in_rows = in_rows + self.then_row.view(-1, width, *size).transpose(1, 2)
        in_columns = self.then_column.view(-1, height, *size)
        in_columns = in_columns + self.column_first.view(-1, *size, height).transpose(2, 3)
        in_rows *= signs(width, in_rows)
        in_columns *= signs(height, in_columns)[:, :, None]
        return in_rows.sum(3) - in_rows.sum(2), in_columns.sum(2) - in_columns.sum(1)


class _Buffer(NamedTuple):
    """Memory for the weights of Q queries of n heads, Y rows of X each.

    Attributes:
        flat: (n, Q, L).
        by_token: (n, Q, H, W), the same.
        by_place: (n, Y, X, L), the same.
    """

    flat: Tensor
    by_token: Tensor
    by_place: Tensor


class _Queries:
    """Queries in chunks: whole rows of the map, or parts of one row.

    What is cut for all chunks at once is not cut for each: calls cost as much as small products.
    """

    def __init__(self, total: int, height: int, width: int, device: torch.device):
        self.size = height, width
        tokens = height * width
        group = max(1, min(total, chunks.weights_per_chunk(device) // tokens**2))
        #: which heads are in one chunk: several, if maps are small
        self.heads = [slice(head, min(head + group, total)) for head in range(0, total, group)]
        unit = width if width * tokens <= _LARGEST_ROW else 1
        queries = chunks.queries_per_chunk(device, tokens, unit)
        rows, columns = max(1, min(height, queries // width)), min(width, queries)
        self.rows = [min(rows, height - y) for y in range(0, height, rows)]
        self.columns = [min(columns, width - x) for x in range(0, width, columns)]
        self.shapes = [(y, x) for y in self.rows for x in self.columns]
        self.largest = group * rows * columns * tokens

    def cut(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """(n, L, ...) in chunks."""
        return tokens.split([y * x for y, x in self.shapes], 1)

    def cut_tables(self, tables: _Tables) -> Iterator[_Tables]:
        """What each chunk has of the tables."""
        by_row = tables.then_column.split(self.rows, 1)
        by_column = tables.then_row.split(self.columns, 2)
        places = product(by_row, by_column)
        by_token = zip(self.cut(tables.row_first), self.cut(tables.column_first))
        for (row_first, column_first), (then_column, then_row) in zip(by_token, places):
            yield _Tables(row_first, then_column, column_first, then_row)

    def buffers(self, heads: slice, memory: list[Tensor]) -> Iterator[list[_Buffer]]:
        """Those of each chunk."""
        for rows, columns in self.shapes:
            shape = heads.stop - heads.start, rows, columns, *self.size
            yield [_as_buffer(piece, *shape) for piece in memory]


def _as_buffer(piece: Tensor, heads: int, rows: int, columns: int, height: int, width: int):
    flat = chunks.buffer(piece, heads, rows * columns, height * width)
    return _Buffer(flat, flat.unflatten(2, (height, width)), flat.unflatten(1, (rows, columns)))


def _logits(
    q: Tensor, keys: Tensor, tables: _Tables, first: _Buffer, second: _Buffer
) -> tuple[Tensor, Tensor]:
    """Those of both polylines, in buffers: of (n, Q, d) queries and (n, d, L) keys."""
    torch.bmm(q, keys, out=second.flat)
    torch.add(second.by_token, tables.row_first, out=first.by_token)
    first.by_place.add_(tables.then_column)
    second.by_token.add_(tables.column_first)
    second.by_place.add_(tables.then_row)
    return first.flat, second.flat


class _Joined(torch.autograd.Function):
    """(N, L, d) queries, keys and values, and (N, H, W) sums, to (N, L, d).

    Logarithms of the softmaxes' denominators are kept; taken off a table, they are taken off the
    logits, whose exponentials are the weights then.
    """

    @staticmethod
    def forward(ctx, q, k, v, row_sums, column_sums):
        out = torch.empty_like(v)
        queries = _Queries(*row_sums.shape, q.device)
        log_totals = q.new_empty(2, *q.shape[:2], 1)
        # made once, as fresh memory is slow at first touch
        memory = [q.new_empty(queries.largest) for _ in range(2)]
        for heads in queries.heads:
            keys, values = k[heads].transpose(1, 2), v[heads]
            tables = queries.cut_tables(_Tables.of(row_sums[heads], column_sums[heads]))
            cut = map(queries.cut, (q[heads], out[heads], *log_totals[:, heads]))
            for tables_, buffers, (q_, out_, *logs) in zip(
                tables, queries.buffers(heads, memory), zip(*cut)
            ):
                both, other = _logits(q_, keys, tables_, *buffers)
                totals = to_weights(both, logs[0]), to_weights(other, logs[1])
                both.mul_(totals[0].reciprocal_()).addcmul_(other, totals[1].reciprocal_())
                out_.copy_(both @ values)
        ctx.save_for_backward(q, k, v, row_sums, column_sums, log_totals)
        return out.div_(2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        q, k, v, row_sums, column_sums, log_totals = ctx.saved_tensors
        grad = grad / 2
        queries = _Queries(*row_sums.shape, q.device)
        memory = [q.new_empty(queries.largest) for _ in range(4)]
        grads = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        of_sums = torch.empty_like(row_sums), torch.empty_like(column_sums)
        for heads in queries.heads:
            tables = _Tables.of(row_sums[heads], column_sums[heads])
            of_tables = _Tables(*map(torch.zeros_like, tables))
            # out of place: one table may be another one's memory
            tables = tables._replace(
                row_first=tables.row_first - log_totals[0, heads, ..., None],
                column_first=tables.column_first - log_totals[1, heads, ..., None],
            )
            step_back = _StepBack(k[heads], v[heads], grads[1][heads], grads[2][heads])
            chunks_ = zip(
                queries.cut(q[heads]),
                queries.cut(grad[heads]),
                queries.cut(grads[0][heads]),
                queries.cut_tables(tables),
                queries.cut_tables(of_tables),
                queries.buffers(heads, memory),
            )
            for chunk in chunks_:
                step_back(*chunk)
            for out, of_heads in zip(of_sums, of_tables.gradients(*queries.size)):
                out[heads] = of_heads
        return *grads, *of_sums


class _StepBack:
    """What the queries of a chunk give to the gradients of q, k, v and of the tables."""

    def __init__(self, k: Tensor, v: Tensor, of_k: Tensor, of_v: Tensor):
        self.k, self.keys, self.values = k, k.transpose(1, 2), v.transpose(1, 2)
        self.of_k, self.of_v = of_k, of_v

    def __call__(
        self,
        q: Tensor,
        grad: Tensor,
        of_q: Tensor,
        tables: _Tables,
        of_tables: _Tables,
        buffers: list[_Buffer],
    ) -> None:
        first, second, third, fourth = buffers
        for logits in _logits(q, self.keys, tables, first, second):
            logits.exp_()
        torch.add(first.flat, second.flat, out=third.flat)
        self.of_v.baddbmm_(third.flat.transpose(1, 2), grad)
        of_weights = torch.bmm(grad, self.values, out=fourth.flat)
        through_softmax(first.flat, of_weights, out=third.flat)
        of_tables.row_first.add_(third.by_token.sum(2, keepdim=True))
        of_tables.then_column.add_(third.by_place.sum(2, keepdim=True))
        through_softmax(second.flat, of_weights, out=first.flat)
        of_tables.column_first.add_(first.by_token.sum(3, keepdim=True))
        of_tables.then_row.add_(first.by_place.sum(1, keepdim=True))
        of_logits = third.flat.add_(first.flat)
        of_q.copy_(of_logits @ self.k)
        self.of_k.baddbmm_(of_logits.transpose(1, 2), q)
