"""Attention to a few candidates without their keys and values, or without tiny products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.precision import autocast_disabled, in_full


def cell_attention_fused(
    q: Tensor, x: Tensor, weight: Tensor, bias: Tensor, valid: Tensor | None = None
) -> Tensor:
    """See :func:`mmeffvit.ops.cell_attention`."""
    # for two candidates their keys and values cost as much as what re-association makes
    attend = _reassociated if x.shape[2] > 2 else _elementwise
    return attend(q * q.shape[3] ** -0.5, x, weight, bias, valid).to(q.dtype)


def _softmax(logits: Tensor, valid: Tensor | None) -> Tensor:
    """Over the last axis, of (B, L, h, K)."""
    if valid is not None:
        logits = logits.masked_fill(~valid[:, None], -torch.inf)
    return logits.softmax(-1)


def _reassociated(
    q: Tensor, x: Tensor, weight: Tensor, bias: Tensor, valid: Tensor | None
) -> Tensor:
    (key, value), (key_bias, value_bias) = (
        t.unflatten(0, (2, *q.shape[2:])) for t in (weight, bias)
    )
    back = torch.einsum("blhd,hdc->blhc", q, key)
    with autocast_disabled(q.device.type):
        candidates = in_full(x)
        # a constant, which the softmax does not see, and whose gradient is zero
        constant = (in_full(q) * key_bias).sum(-1, keepdim=True)
        weights = _softmax(in_full(back) @ candidates.transpose(-1, -2) + constant, valid)
        mean = weights.to(candidates.dtype) @ candidates
    return torch.einsum("blhc,hdc->blhd", mean.to(x.dtype), value) + value_bias


def _elementwise(
    q: Tensor, x: Tensor, weight: Tensor, bias: Tensor, valid: Tensor | None
) -> Tensor:
    k, v = F.linear(x, weight, bias).unflatten(-1, (2, *q.shape[2:])).unbind(3)
    logits = (in_full(q).unsqueeze(2) * k).sum(-1).transpose(2, 3)
    return (_softmax(logits, valid).transpose(2, 3).unsqueeze(-1) * v).sum(2)
