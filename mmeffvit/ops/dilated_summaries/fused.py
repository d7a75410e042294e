"""Summaries as sums over the tokens of a map; derived in README.md beside it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.dilated_summaries.places import point_places, span_runs
from mmeffvit.ops.precision import autocast_disabled, full_dtype


def dilated_summaries_fused(x: Tensor, num_heads: int, window_size: int, dilation: int) -> Tensor:
    """See :func:`mmeffvit.ops.dilated_summaries`."""
    size = x.shape[2], x.shape[3]
    # (B, L, h, D), a view where channels are last in memory
    tokens = x.permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, (num_heads, -1))
    with autocast_disabled(x.device.type):
        if torch.compiler.is_compiling():
            out = _all_points(tokens, point_places(size, window_size, dilation, x.device))
        else:
            out = _by_runs(tokens, size, window_size, dilation)
    return out.to(x.dtype)


def _all_points(tokens: Tensor, places: Tensor) -> Tensor:
    """Every point is read and put in its run: for graphs, which hold for any number of spans."""
    points = tokens.index_select(1, places.flatten()).to(full_dtype(tokens.dtype))
    points = points.unflatten(1, places.shape).permute(0, 3, 1, 2, 4)  # (B, h, k * k, spans, D)
    return points.flatten(3).unflatten(3, (tokens.shape[3], places.shape[1])).mean(-1)


def _by_runs(tokens: Tensor, size: tuple[int, int], window_size: int, dilation: int) -> Tensor:
    dim, dtype = tokens.shape[3], full_dtype(tokens.dtype)
    runs = span_runs(size, window_size, dilation, dim, tokens.device)
    if runs.cut_places.numel() > tokens.shape[1]:
        # a small map, whose tokens are read often: their gradients are added up in full
        tokens = tokens.to(dtype)
    cut = tokens.index_select(1, runs.cut_places.flatten()).to(dtype)
    cut = cut.unflatten(1, runs.cut_places.shape)  # (B, k * k, M, h, D)
    out = torch.einsum("bpmhc,mcr->bhpr", cut, runs.cut_run.to(dtype))
    if runs.places.shape[1]:
        # of a whole span only the sum over its numbers counts
        sums = tokens.sum(-1, dtype=dtype).index_select(1, runs.places.flatten())
        sums = sums.unflatten(1, runs.places.shape)  # (B, k * k, W, h)
        out = out + torch.einsum("bpwh,wr->bhpr", sums, runs.run.to(dtype))
    return out / (runs.places.shape[1] + runs.cut_places.shape[1])


def summary_attention_fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """See :func:`mmeffvit.ops.summary_attention`."""
    dim = q.shape[-1]
    if q.is_cuda and dim % 8:
        # kernels without weights in memory want multiples of eight; zeros change nothing
        q, k, v = (F.pad(t, (0, -dim % 8)) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, scale=dim**-0.5)[..., :dim]
