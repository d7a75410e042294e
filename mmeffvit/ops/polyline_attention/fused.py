"""Polyline path masked attention without its masks in memory; derived in README.md beside it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.chunked_attention import attend, chunked_attention
from mmeffvit.ops.polyline_attention.joined import joined_attention
from mmeffvit.ops.polyline_attention.lines import attention_in_lines
from mmeffvit.ops.polyline_attention.reference import (
    line_masks,
    path_sums,
    polyline_attention_reference,
    polyline_mask,
    signs,
)
from mmeffvit.ops.polyline_attention.weights import products_are_plain


class _LineMask:
    """Masks inside lines of n tokens, each a "head" of its own.

    Args:
        sums: (N, n) sums c of the steps.
    """

    samples = 1
    unit = 1

    def __init__(self, sums: Tensor):
        self.sums = sums
        self.signs = signs(sums.shape[1], sums)
        self.grad = torch.zeros_like(sums)

    def write(self, out: Tensor, start: int, heads: slice) -> None:
        sums = self.sums[heads, None]
        rows = sums[:, :, start : start + out.shape[2], None]
        torch.sub(rows, sums[:, :, None], out=out).abs_().neg_()

    def collect(self, grad: Tensor, start: int, heads: slice) -> None:
        rows = slice(start, start + grad.shape[2])
        grad.mul_(self.signs[rows])
        self.grad[heads, rows] += grad.sum((1, 3))
        self.grad[heads] -= grad.sum((1, 2))

    def gradients(self) -> tuple[Tensor, ...]:
        return (self.grad,)


class _RowFirstMask:
    """Masks of the paths along the row of a query, then along the column of a key.

    Those of one row or one column, H W (H + W) numbers per head, are kept while it lives.

    Args:
        row_sums: (B, h, H, W) sums of the steps along rows.
        column_sums: (B, h, H, W) sums of the steps along columns.
    """

    def __init__(self, row_sums: Tensor, column_sums: Tensor):
        row_sums, column_sums = row_sums.transpose(0, 1), column_sums.transpose(0, 1)
        self.samples, _, self.width = row_sums.shape[1:]
        self.unit = self.width
        self.in_rows = line_masks(row_sums)  # (h, B, y1, x1, x2)
        # (h, B, y1, y2, x2)
        self.in_columns = -(column_sums[:, :, :, None] - column_sums[:, :, None]).abs()
        self.grads: tuple[Tensor, Tensor] | None = None

    def write(self, out: Tensor, start: int, heads: slice) -> None:
        out, rows = self._rows(out, start)
        along_row = self.in_rows[heads, :, rows, :, None]
        torch.add(along_row, self.in_columns[heads, :, rows, None], out=out)

    def collect(self, grad: Tensor, start: int, heads: slice) -> None:
        if self.grads is None:
            self.grads = torch.zeros_like(self.in_rows), torch.zeros_like(self.in_columns)
        grad, rows = self._rows(grad, start)
        self.grads[0][heads, :, rows] = grad.sum(4)
        self.grads[1][heads, :, rows] = grad.sum(3)

    def _rows(self, weights: Tensor, start: int) -> tuple[Tensor, slice]:
        """(h, B, n, L) as (h, B, y1, x1, y2, x2), and the rows y1."""
        rows = slice(start // self.width, (start + weights.shape[2]) // self.width)
        return weights.unflatten(3, (-1, self.width)).unflatten(2, (-1, self.width)), rows

    def gradients(self) -> tuple[Tensor, ...]:
        in_rows, in_columns = self.grads
        in_rows *= signs(self.width, in_rows)
        in_columns *= signs(in_columns.shape[2], in_columns)[:, :, None]
        sums = in_rows.sum(4) - in_rows.sum(3), in_columns.sum(3) - in_columns.sum(2)
        return tuple(grad.transpose(0, 1) for grad in sums)


def _whole(q: Tensor, k: Tensor, v: Tensor, steps: Tensor, scale: float) -> Tensor:
    if torch.compiler.is_compiling():
        mask = polyline_mask(steps).to(q.dtype)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        outs = [
            F.scaled_dot_product_attention(q, k, v, attn_mask=m, scale=scale)
            for m in (mask, mask.transpose(-1, -2))
        ]
        return (outs[0] + outs[1]).div(2).transpose(1, 2)
    row_sums, column_sums = path_sums(steps)
    if products_are_plain(q):
        return joined_attention(q, k, v, row_sums, column_sums, scale)
    row_first = chunked_attention(q, k, v, scale, _RowFirstMask, row_sums, column_sums)
    # on the transposed map, the path along the column comes first
    size = steps.shape[1:3]
    turned = (t.unflatten(1, size).transpose(1, 2).flatten(1, 2) for t in (q, k, v))
    sums = (t.transpose(2, 3) for t in (column_sums, row_sums))
    column_first = chunked_attention(*turned, scale, _RowFirstMask, *sums)
    column_first = column_first.unflatten(1, size[::-1]).transpose(1, 2).flatten(1, 2)
    return (row_first + column_first) / 2


def _inside_lines(q: Tensor, k: Tensor, v: Tensor, sums: Tensor, scale: float) -> Tensor:
    """Attention inside each of N lines: q, k, v (N, n, d), and (N, n) sums of their steps."""
    if torch.compiler.is_compiling():
        # of four axes, as ONNX has attention
        mask = line_masks(sums).to(q.dtype)
        return attend(q[None], k[None], v[None], mask[None], scale)[0]
    # one sample of as many heads as there are lines
    q, k, v = (t.transpose(0, 1)[None] for t in (q, k, v))
    return chunked_attention(q, k, v, scale, _LineMask, sums)[0].transpose(0, 1)


def _decomposed(q: Tensor, k: Tensor, v: Tensor, steps: Tensor, scale: float) -> Tensor:
    batch, height, width, heads, _ = steps.shape
    row_sums, column_sums = path_sums(steps)
    if products_are_plain(q) and not torch.compiler.is_compiling():
        return attention_in_lines(q, k, v, row_sums, column_sums, scale)
    q, k, v = (t.unflatten(1, (height, width)) for t in (q, k, v))

    def rows(x: Tensor) -> Tensor:  # (B, H, W, h, d) to (B H h, W, d)
        return x.transpose(2, 3).flatten(0, 2)

    def columns(x: Tensor) -> Tensor:  # (B, H, W, h, d) to (B W h, H, d)
        return x.permute(0, 2, 3, 1, 4).flatten(0, 2)

    def of_columns(x: Tensor) -> Tensor:
        return x.unflatten(0, (batch, width, heads)).permute(0, 3, 1, 2, 4)

    in_rows = rows(q), rows(k)
    in_columns = columns(q), columns(k)
    row_sums = row_sums.transpose(1, 2).flatten(0, 2)
    column_sums = column_sums.permute(0, 3, 1, 2).flatten(0, 2)
    from_columns = of_columns(_inside_lines(*in_columns, columns(v), column_sums, scale))
    # the weights along rows serve both orders at once
    both = _inside_lines(*in_rows, rows(torch.cat((v, from_columns), -1)), row_sums, scale)
    both = both.unflatten(0, (batch, height, heads)).transpose(2, 3)
    from_rows, columns_first = both.tensor_split(2, -1)
    rows_first = of_columns(_inside_lines(*in_columns, columns(from_rows), column_sums, scale))
    return ((rows_first + columns_first) / 2).flatten(1, 2)


def polyline_attention_fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    steps: Tensor,
    *,
    decomposed: bool = False,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.polyline_attention`."""
    if q.device.type == "meta":
        # only what it costs is of interest there: that of the formula, as the authors count
        return polyline_attention_reference(q, k, v, steps, decomposed=decomposed, scale=scale)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return (_decomposed if decomposed else _whole)(q, k, v, steps, scale)
