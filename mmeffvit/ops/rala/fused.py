"""Linear attention without factors of L, softmax attention without its weights; see README.md."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops.precision import autocast_disabled, in_full
from mmeffvit.ops.rotary import apply_rotary


class _Summary(NamedTuple):
    """What the tokens of a head come to; R is B*h, everything in float32 (or float64).

    Plain linear attention has no mean query, and the weight 1 / L for all.
    """

    mean_query: Tensor | None  # (R, d, 1)
    weights: Tensor  # (R, L, 1), summing to one
    state: Tensor  # (R, d, d)
    mean_key: Tensor  # (R, d, 1), weighted


def _heads_first(x: Tensor) -> Tensor:
    """(B, L, h, d) -> (B*h, L, d), in full precision."""
    return in_full(x.transpose(1, 2).flatten(0, 1))


def _tokens_first(x: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """(B*h, L, d) -> (B, L, h, d)."""
    return x.unflatten(0, (shape[0], shape[2])).transpose(1, 2).to(dtype)


def _positive(x: Tensor) -> Tensor:
    """ELU(x) + 1 as exp(x) below zero: no digits are lost where it is small."""
    # in place: a map's worth of fresh memory costs more than the arithmetic
    return x.clamp(max=0).exp_().add_(x.clamp(min=0))


def _turned(x: Tensor, table: Tensor | None) -> Tensor:
    return x if table is None else apply_rotary(x, table)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, table: Tensor | None, eps: float
) -> tuple[Tensor, _Summary]:
    """Linear attention of positive queries and keys, (B*h, L, d) each; plain without a table."""
    if table is None:
        mean_query, weights = None, torch.full_like(key[..., :1], 1 / key.shape[1])
    else:
        mean_query = query.mean(dim=1).unsqueeze(-1)
        weights = (key @ mean_query * query.shape[-1] ** -0.5).softmax(dim=1)
    mean_key = key.transpose(1, 2) @ weights
    state = _turned(key, table).transpose(1, 2) @ (value * weights)
    out = _turned(query, table) @ state / (query @ mean_key + eps)
    return out, _Summary(mean_query, weights, state, mean_key)


class _LinearAttention(torch.autograd.Function):
    """Keeps positive queries and keys, values, and L + d^2 numbers per head."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, eps: float) -> Tensor:
        with autocast_disabled(q.device.type):
            query, key = _positive(_heads_first(q)), _positive(_heads_first(k))
            out, summary = _attend(query, key, _heads_first(v), table, eps)
        ctx.save_for_backward(query, key, v, table, *summary)
        ctx.eps = eps
        ctx.dtypes = [t.dtype for t in (q, k, v)]
        return _tokens_first(out, v.shape, v.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        query, key, v, table, *summary = ctx.saved_tensors
        with autocast_disabled(grad.device.type):
            value, out_grad = _heads_first(v), _heads_first(grad)
            grads = _backward(out_grad, query, key, value, table, _Summary(*summary), ctx.eps)
        tokens = (_tokens_first(g, v.shape, dtype) for g, dtype in zip(grads, ctx.dtypes))
        return *tokens, None, None


def _backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table: Tensor | None,
    summary: _Summary,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with regard to q, k and v, (B*h, L, d) in full precision."""
    mean_query, weights, state, mean_key = summary
    back = None
    if table is not None:
        back = torch.view_as_real(torch.view_as_complex(table).conj_physical())

    normaliser = query @ mean_key + eps
    d_numerator = grad / normaliser
    d_state = _turned(query, table).transpose(1, 2) @ d_numerator
    d_query = _turned(d_numerator @ state.transpose(1, 2), back)
    # <d_numerator, numerator> without the numerator
    d_normaliser = (query * d_query).sum(-1, keepdim=True).div_(normaliser).neg_()
    d_mean_key = query.transpose(1, 2) @ d_normaliser
    d_query.addcmul_(d_normaliser, mean_key.transpose(1, 2))

    d_value = (_turned(key, table) @ d_state).mul_(weights)
    d_weighted_key = _turned(value @ d_state.transpose(1, 2), back)
    d_weighted_key += d_mean_key.transpose(1, 2)
    if mean_query is None:
        d_key = d_weighted_key.mul_(weights)
    else:
        d_weights = (key * d_weighted_key).sum(-1, keepdim=True)
        d_scores = (d_weights - (d_weights * weights).sum(1, keepdim=True)) * weights
        d_scores *= query.shape[-1] ** -0.5
        d_key = d_weighted_key.mul_(weights).addcmul_(d_scores, mean_query.transpose(1, 2))
        d_query += (key.transpose(1, 2) @ d_scores).transpose(1, 2) / query.shape[1]

    # the derivative of _positive is exp(x) below zero and 1 above
    return d_query.mul_(query.clamp(max=1)), d_key.mul_(key.clamp(max=1)), d_value


def linear_attention_fused(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-6) -> Tensor:
    """See :func:`mmeffvit.ops.linear_attention`."""
    return _linear_attention(q, k, v, None, eps)


def rank_augmented_linear_attention_fused(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, *, eps: float = 1e-6
) -> Tensor:
    """See :func:`mmeffvit.ops.rank_augmented_linear_attention`."""
    return _linear_attention(q, k, v, table, eps)


def _linear_attention(q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, eps: float) -> Tensor:
    if torch.compiler.is_compiling():
        # the compiler chooses what to keep and what to compute again
        with autocast_disabled(q.device.type):
            query, key = (F.elu(_heads_first(t)) + 1 for t in (q, k))
            out, _ = _attend(query, key, _heads_first(v), table, eps)
        return _tokens_first(out, v.shape, v.dtype)
    return _LinearAttention.apply(q, k, v, table, eps)


def rotary_softmax_attention_fused(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """See :func:`mmeffvit.ops.rotary_softmax_attention`."""
    q, k = apply_rotary(q, table), apply_rotary(k, table)
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
