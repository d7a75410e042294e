"""Attention with tables of offsets, never by query and key; derived in README.md beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops.group_attention.fused import attend_in_groups
from mmeffvit.ops.group_attention.groups import Kind
from mmeffvit.ops.precision import autocast_disabled, in_full, in_full_precision
from mmeffvit.ops.relative_attention.pieces import Memory, Piece, cut_queries
from mmeffvit.ops.relative_attention.reference import of_window, relative_attention_reference

Tables = Sequence[Tensor | None]


def _by_reversed_query(table: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    """(h, 2 H - 1, 2 W - 1) by key minus query, as a view by reversed query and key.

    It is (h, H, W, H, W): counted from the end, a query's place plus a key's is their offset.
    """
    if table is None:
        return None
    return table.unfold(1, size[0], 1).unfold(2, size[1], 1)


def _reversed(x: Tensor) -> Tensor:
    """(B, L, h, d) as (h, B, L, d), the last token first."""
    return x.permute(2, 0, 1, 3).flip(2).contiguous()


def _logits(products: Tensor, piece: Piece, gain: Tensor | None, bias: Tensor | None) -> Tensor:
    """Products of queries and keys, (h', B', rows, columns, H, W), to logits, in their place."""
    if gain is not None:
        products.mul_(piece.of_table(gain))
    if bias is not None:
        products.add_(piece.of_table(bias))
    return products


def _matrices(x: Tensor) -> Tensor:
    """(h', B', rows, columns, H, W) as (h' B', queries, keys), a view."""
    return x.flatten(4, 5).flatten(2, 3).flatten(0, 1)


class _RelativeAttention(torch.autograd.Function):
    """Weights are made some at a time, and again in the backward pass.

    What is kept is q, k, v, the output and the tables.
    """

    @staticmethod
    def forward(ctx, q, k, v, size, scale, *tables):
        ctx.save_for_backward(q, k, v, *tables)
        ctx.size, ctx.scale = size, scale
        batch, _, heads, _ = q.shape
        queries = _reversed(q) * scale
        keys, values = (t.permute(2, 0, 1, 3).contiguous() for t in (k, v))
        gain, bias, factor = (_by_reversed_query(table, size) for table in tables)
        out = torch.empty_like(values)
        pieces = cut_queries(heads, batch, size, q.device)
        memory = Memory(2, pieces, size, q)
        for piece in pieces:
            logits, weights = memory.of(piece)
            torch.bmm(
                piece.of_queries(queries, size[1]),
                piece.of_keys(keys).transpose(1, 2),
                out=_matrices(logits),
            )
            _logits(logits, piece, gain, bias)
            torch.softmax(_matrices(logits), -1, out=_matrices(weights))
            if factor is not None:
                weights.mul_(piece.of_table(factor))
            piece.of_queries(out, size[1]).copy_(_matrices(weights) @ piece.of_keys(values))
        return out.flip(2).permute(1, 2, 0, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        with autocast_disabled(grad.device.type):
            q, k, v, *tables = ctx.saved_tensors
            wanted = ctx.needs_input_grad[5:]
            grads = _gradients(q, k, v, grad, tables, wanted, ctx.size, ctx.scale)
            of_tokens, of_tables = grads
            return *of_tokens, None, None, *of_tables


def _gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad: Tensor,
    tables: Tables,
    wanted: Sequence[bool],
    size: tuple[int, int],
    scale: float,
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Gradients of q, k and v, and of the tables that they are wanted of."""
    batch, _, heads, _ = q.shape
    width = size[1]
    queries, grad = _reversed(q) * scale, _reversed(grad)
    keys, values = (t.permute(2, 0, 1, 3).contiguous() for t in (k, v))
    gain, bias, factor = (_by_reversed_query(table, size) for table in tables)
    sums = [torch.zeros_like(t) if on else None for t, on in zip(tables, wanted)]
    of_q, of_k, of_v = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(values)
    pieces = cut_queries(heads, batch, size, q.device)
    memory = Memory(4, pieces, size, q)
    for piece in pieces:
        products, logits, weights, mixed = memory.of(piece)
        own_queries = piece.of_queries(queries, width)
        own_keys, own_values = piece.of_keys(keys), piece.of_keys(values)
        own_grad = piece.of_queries(grad, width)
        torch.bmm(own_queries, own_keys.transpose(1, 2), out=_matrices(products))
        _logits(logits.copy_(products), piece, gain, bias)
        torch.softmax(_matrices(logits), -1, out=_matrices(weights))
        of_weights = logits  # its memory
        torch.bmm(own_grad, own_values.transpose(1, 2), out=_matrices(of_weights))
        if factor is None:
            mixed.copy_(weights)
        else:
            if sums[2] is not None:
                torch.mul(weights, of_weights, out=mixed)
                _collect(mixed, piece, sums[2])
            torch.mul(weights, piece.of_table(factor), out=mixed)
            of_weights.mul_(piece.of_table(factor))
        piece.of_keys(of_v).baddbmm_(_matrices(mixed).transpose(1, 2), own_grad)
        _through_softmax(weights, of_weights)
        if sums[1] is not None:
            _collect(of_weights, piece, sums[1])
        if gain is not None:
            if sums[0] is not None:
                _collect(products.mul_(of_weights), piece, sums[0])
            of_weights.mul_(piece.of_table(gain))
        piece.of_queries(of_q, width).copy_(_matrices(of_weights) @ own_keys)
        piece.of_keys(of_k).baddbmm_(_matrices(of_weights).transpose(1, 2), own_queries)
    of_tokens = (of_q.flip(2).mul_(scale), of_k, of_v)
    return [t.permute(1, 2, 0, 3) for t in of_tokens], sums


def _through_softmax(weights: Tensor, grad: Tensor) -> None:
    """Gradients of weights to those of logits, in their place."""
    grad = _matrices(grad)
    weights = _matrices(weights)
    centre = torch.einsum("nqk,nqk->nq", weights, grad)
    grad.sub_(centre[..., None]).mul_(weights)


def _collect(grad: Tensor, piece: Piece, total: Tensor) -> None:
    """Add what is asked of every query and key to the offsets between them: unfolding, reversed."""
    rows, columns, height, width = grad.shape[2:]
    by_key = _matrices(grad.sum(1, keepdim=True)).transpose(1, 2)
    offsets = (height + rows - 1, width + columns - 1)
    there = total[
        piece.heads,
        piece.rows.start : piece.rows.start + offsets[0],
        piece.columns.start : piece.columns.start + offsets[1],
    ]
    there += F.fold(by_key, offsets, (height, width))[:, 0]


@in_full_precision
def _attend(
    q: Tensor, k: Tensor, v: Tensor, size: tuple[int, int], scale: float, tables: Tables
) -> Tensor:
    """(B, L, h, d) tokens of maps of `size`, all with all."""
    tables = [None if table is None else in_full(table) for table in tables]
    return _RelativeAttention.apply(q, k, v, size, scale, *tables)


def relative_attention_fused(
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
    if torch.compiler.is_compiling() or q.device.type == "meta":
        # of a graph the weights are whole; on meta only what they cost is of interest
        return relative_attention_reference(
            q, k, v, window, gain=gain, bias=bias, factor=factor, scale=scale
        )
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    tables = (gain, bias, factor)
    size = tuple(q.shape[1:3])
    if window is None:
        q, k, v = (t.flatten(1, 2) for t in (q, k, v))
        return _attend(q, k, v, size, scale, tables).unflatten(1, size)

    def attend(kind: Kind, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        own = [of_window(table, tuple(window), kind.size) for table in tables]
        return _attend(q, k, v, kind.size, scale, own)

    return attend_in_groups(q, k, v, tuple(window), 1, attend)
