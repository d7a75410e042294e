"""The decomposed form as one function, on a CPU: weights along columns serve it twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops import chunked_attention as chunks
from mmeffvit.ops.polyline_attention.reference import signs
from mmeffvit.ops.polyline_attention.weights import through_softmax, to_weights


def attention_in_lines(
    q: Tensor, k: Tensor, v: Tensor, row_sums: Tensor, column_sums: Tensor, scale: float
) -> Tensor:
    """The decomposed form; first derivatives only. Arguments are those of `joined_attention`."""
    return _Decomposed.apply(q, k, v, row_sums, column_sums, scale)


Tensors = Sequence[Tensor]


class _Lines:
    """Attention inside each of M lines of n tokens, some of its weights at a time.

    Args:
        q: (M, n, d) queries.
        k: (M, n, d) keys.
        sums: (M, n) sums of the steps.
        log_totals: (M, n) logarithms of the softmax's denominators; `mix_first` writes them.
        scale: Factor of the products.
        memory: Flat pieces of memory, of `_memory`.
    """

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        sums: Tensor,
        log_totals: Tensor,
        scale: float,
        memory: list[Tensor],
    ):
        self.q, self.k, self.sums, self.log_totals = q, k, sums, log_totals
        self.scale, self.memory = scale, memory

    def _chunks(self) -> Iterator[tuple[slice, slice, list[Tensor]]]:
        """Some lines, some of their queries, and buffers of which the first has minus the masks."""
        total, size = self.sums.shape
        group, queries = _chunk_size(total, size, self.q.device)
        for line in range(0, total, group):
            lines = slice(line, min(line + group, total))
            for query in range(0, size, queries):
                some = slice(query, min(query + queries, size))
                shape = lines.stop - line, some.stop - query, size
                buffers = [chunks.buffer(piece, *shape) for piece in self.memory]
                sums = self.sums[lines]
                torch.sub(sums[:, some, None], sums[:, None], out=buffers[0]).abs_()
                yield lines, some, buffers

    def _logits(self, taken_off: Tensor, lines: slice, queries: slice) -> Tensor:
        keys = self.k[lines].transpose(1, 2)
        return taken_off.baddbmm_(self.q[lines, queries], keys, beta=-1, alpha=self.scale)

    def _weights(self) -> Iterator[tuple[slice, slice, list[Tensor]]]:
        for lines, queries, buffers in self._chunks():
            buffers[0].add_(self.log_totals[lines, queries, None])
            self._logits(buffers[0], lines, queries).exp_()
            yield lines, queries, buffers

    def mix_first(self, values: Tensors, out: Tensors) -> None:
        """Mix (M, n, d) values; from then on the softmax's denominators are known."""
        for lines, queries, buffers in self._chunks():
            logits = self._logits(buffers[0], lines, queries)
            totals = to_weights(logits, self.log_totals[lines, queries, None])
            mixed = (logits @ _joined(values, lines)).div_(totals)
            for whole, part in zip(out, mixed.chunk(len(out), -1)):
                whole[lines, queries] = part

    def mix(self, values: Tensor, out: Tensor) -> None:
        """Mix (M, n, d) values."""
        for lines, queries, buffers in self._weights():
            out[lines, queries] = buffers[0] @ values[lines]

    def mix_back(self, grad: Tensor, out: Tensor) -> None:
        """Of a gradient of mixed values, add to that of the values."""
        for lines, queries, buffers in self._weights():
            out[lines] += buffers[0].transpose(1, 2) @ grad[lines, queries]

    def gradients(
        self, values: Tensors, grad: Tensors, of_values: Sequence[Tensor | None], others: Tensors
    ) -> None:
        """Of gradients of mixed values, add to those of the values and of q, k and the sums."""
        of_q, of_k, of_sums = others
        directions = signs(self.sums.shape[1], self.sums)
        for lines, queries, (weights, of_weights, of_logits) in self._weights():
            for of_value, of_mixed in zip(of_values, grad):
                if of_value is not None:
                    of_value[lines] += weights.transpose(1, 2) @ of_mixed[lines, queries]
            of_mixed = _joined(grad, lines)[:, queries]
            torch.bmm(of_mixed, _joined(values, lines).transpose(1, 2), out=of_weights)
            through_softmax(weights, of_weights, out=of_logits)
            of_q[lines, queries] += (of_logits @ self.k[lines]).mul_(self.scale)
            of_k[lines] += (of_logits.transpose(1, 2) @ self.q[lines, queries]).mul_(self.scale)
            of_logits.mul_(directions[queries])
            of_sums[lines, queries] += of_logits.sum(2)
            of_sums[lines] -= of_logits.sum(1)


def _joined(tensors: Tensors, lines: slice) -> Tensor:
    """Some lines of (M, n, d) tensors, (m, n, e): small, and so in memory that is at hand."""
    return torch.cat([t[lines] for t in tensors], -1)


def _chunk_size(lines: int, tokens: int, device: torch.device) -> tuple[int, int]:
    """How many lines, and how many of their queries, have their weights at a time."""
    queries = min(tokens, chunks.queries_per_chunk(device, tokens))
    budget = chunks.weights_per_chunk(device)
    return min(lines, max(1, budget // (queries * tokens))), queries


def _memory(q: Tensor, height: int, width: int, pieces: int) -> list[Tensor]:
    """Memory for the weights of a chunk along rows or along columns."""
    sizes = []
    for lines, tokens in ((height, width), (width, height)):
        group, queries = _chunk_size(lines, tokens, q.device)
        sizes.append(group * queries * tokens)
    return [q.new_empty(max(sizes)) for _ in range(pieces)]


class _Map(NamedTuple):
    """One head of one sample.

    Attributes:
        q: (H, W, d) queries.
        k: (H, W, d) keys.
        v: (H, W, d) values.
        row_sums: (H, W) sums of the steps along rows.
        column_sums: (H, W) sums of the steps along columns.
        row_totals: (H, W) logarithms of the softmax's denominators inside rows.
        column_totals: (W, H) those inside columns.
        from_rows: (H, W, d) what is mixed from the values along rows.
        from_columns: (H, W, d) what is mixed from them along columns.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    row_sums: Tensor
    column_sums: Tensor
    row_totals: Tensor
    column_totals: Tensor
    from_rows: Tensor
    from_columns: Tensor

    def lines(self, scale: float, memory: list[Tensor]) -> tuple[_Lines, _Lines]:
        """Attention inside rows and inside columns."""
        of_columns = (_turned(t).contiguous() for t in (self.q, self.k, self.column_sums))
        return (
            _Lines(self.q, self.k, self.row_sums, self.row_totals, scale, memory),
            _Lines(*of_columns, self.column_totals, scale, memory),
        )

    def mix(self, scale: float, memory: list[Tensor], out: Tensor) -> None:
        """Write what is mixed into (H, W, d), and what is kept for the gradients."""
        in_rows, in_columns = self.lines(scale, memory)
        in_columns.mix_first((_turned(self.v),), (_turned(self.from_columns),))
        # the weights along rows serve both orders at once
        columns_first = torch.empty_like(self.v)
        in_rows.mix_first((self.v, self.from_columns), (self.from_rows, columns_first))
        in_columns.mix(_turned(self.from_rows), _turned(out))
        out.add_(columns_first).div_(2)

    def mix_back(
        self, scale: float, memory: list[Tensor], grad: Tensor, grads: tuple[Tensor, ...]
    ) -> None:
        """Add to the gradients of q, k, v and of both kinds of sums."""
        in_rows, in_columns = self.lines(scale, memory)
        of_q, of_k, of_v, of_row_sums, of_column_sums = grads
        grad = grad / 2
        of_from_rows = torch.zeros_like(grad)
        in_columns.mix_back(_turned(grad), _turned(of_from_rows))
        of_from_columns = torch.zeros_like(grad)
        in_rows.gradients(
            (self.v, self.from_columns),
            (of_from_rows, grad),
            (of_v, of_from_columns),
            (of_q, of_k, of_row_sums),
        )
        in_columns.gradients(
            (_turned(self.from_rows), _turned(self.v)),
            (_turned(grad), _turned(of_from_columns)),
            (None, _turned(of_v)),  # that of what is mixed along rows is known
            tuple(map(_turned, (of_q, of_k, of_column_sums))),
        )


def _turned(x: Tensor) -> Tensor:
    return x.transpose(0, 1)


def _maps(x: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """(H, W, d) of each head of each sample of (B, L, h, d)."""
    return (tokens.unflatten(0, size) for sample in x for tokens in sample.unbind(1))


class _Decomposed(torch.autograd.Function):
    """Each head of each sample is a map of its own: what is made on the way is small."""

    @staticmethod
    def forward(ctx, q, k, v, row_sums, column_sums, scale):
        size = row_sums.shape[2:]
        out = v.new_empty(v.shape)
        totals = torch.empty_like(row_sums), torch.empty_like(row_sums.mT)
        kept = [v.new_empty(*row_sums.shape, v.shape[-1]) for _ in range(2)]
        inputs = q, k, v, row_sums, column_sums, *totals, *kept
        memory = _memory(q, *size, 1)
        for map_, out_map in zip(_Decomposed.maps(*inputs), _maps(out, size)):
            map_.mix(scale, memory, out_map)
        ctx.save_for_backward(*inputs)
        ctx.scale = scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        inputs = ctx.saved_tensors
        grads = [torch.zeros_like(t) for t in inputs[:5]]
        size = grads[3].shape[2:]
        memory = _memory(grad, *size, 3)
        of_maps = zip(*(_maps(t, size) for t in grads[:3]), *(t.flatten(0, 1) for t in grads[3:]))
        for map_, grad_map, of_map in zip(_Decomposed.maps(*inputs), _maps(grad, size), of_maps):
            map_.mix_back(ctx.scale, memory, grad_map, of_map)
        return *grads, None

    @staticmethod
    def maps(q: Tensor, k: Tensor, v: Tensor, *others: Tensor) -> Iterator[_Map]:
        size = others[0].shape[2:]
        tokens = (_maps(t, size) for t in (q, k, v))
        return (_Map(*parts) for parts in zip(*tokens, *(t.flatten(0, 1) for t in others)))
