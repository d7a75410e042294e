"""The formulas of RAVLT's two attentions, in the authors' order, with their factors of L.

And that of plain linear attention.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.precision import in_full, in_full_precision


def _rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn the channel pairs of (B, h, L, d): ``(u0 cos - u1 sin, u1 cos + u0 sin)``."""
    cos, sin = table.unbind(-1)
    first, second = x[..., ::2], x[..., 1::2]
    rotated = torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return rotated.flatten(-2).to(x.dtype)


def _weights(q: Tensor, k: Tensor) -> Tensor:
    """Weights from positive queries and keys (B, h, L, d): (B, h, L, 1), summing to one over L."""
    mean_query = q.mean(dim=2, keepdim=True)
    return (q.shape[-1] ** -0.5 * (k @ mean_query.transpose(-1, -2))).softmax(dim=2)


def rala_token_weights(q: Tensor, k: Tensor) -> Tensor:
    """How much every token adds to the state of `rank_augmented_linear_attention`.

    Args:
        q: (B, L, h, d) queries as projected.
        k: (B, L, h, d) keys as projected.

    Returns:
        (B, h, L), each row summing to one; float64 for float64 inputs, otherwise float32.
    """
    return _weights(*(F.elu(in_full(t).transpose(1, 2)) + 1 for t in (q, k))).squeeze(-1)


@in_full_precision
def linear_attention_reference(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-6) -> Tensor:
    """See :func:`mmeffvit.ops.linear_attention`."""
    tokens = q.shape[1]
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    q, k = F.elu(q) + 1, F.elu(k) + 1
    normaliser = q @ k.mean(dim=2, keepdim=True).transpose(-1, -2) + eps
    state = (k * tokens**-0.5).transpose(-1, -2) @ (v * tokens**-0.5)
    return (q @ state / normaliser).transpose(1, 2)


@in_full_precision
def rank_augmented_linear_attention_reference(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, *, eps: float = 1e-6
) -> Tensor:
    """See :func:`mmeffvit.ops.rank_augmented_linear_attention`."""
    tokens = q.shape[1]
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    q, k = F.elu(q) + 1, F.elu(k) + 1
    k = k * _weights(q, k) * tokens
    normaliser = 1 / (q @ k.mean(dim=2, keepdim=True).transpose(-1, -2) + eps)
    # positions enter the numerator alone
    q, k = _rotate(q, table), _rotate(k, table)
    state = (k * tokens**-0.5).transpose(-1, -2) @ (v * tokens**-0.5)
    return (q @ state * normaliser).transpose(1, 2)


@in_full_precision
def rotary_softmax_attention_reference(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """See :func:`mmeffvit.ops.rotary_softmax_attention`."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    q, k = _rotate(q, table), _rotate(k, table)
    return ((q.shape[-1] ** -0.5 * q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 2)
