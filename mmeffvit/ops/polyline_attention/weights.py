"""Softmax in parts, on a CPU in full precision: what all chunks of weights need."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops.precision import autocast_enabled


def products_are_plain(q: Tensor) -> bool:
    """Whether products are as fast outside of `scaled_dot_product_attention` as in it."""
    full = q.dtype in (torch.float32, torch.float64)
    return q.device.type == "cpu" and full and not autocast_enabled("cpu")


def to_weights(logits: Tensor, log_totals: Tensor) -> Tensor:
    """Make (..., n) logits the numerators of their softmax, in place.

    Args:
        logits: Become the numerators.
        log_totals: (..., 1), where the logarithms of the softmax's denominators are written.

    Returns:
        The sums of the numerators, (..., 1).
    """
    top = logits.amax(-1, keepdim=True)
    totals = logits.sub_(top).exp_().sum(-1, keepdim=True)
    torch.add(top, totals.log(), out=log_totals)
    return totals


def through_softmax(weights: Tensor, of_weights: Tensor, out: Tensor) -> Tensor:
    """The gradient of logits, from that of their softmax, in one pass."""
    return torch.ops.aten._softmax_backward_data.out(
        of_weights, weights, -1, weights.dtype, grad_input=out
    )
