"""Clustering attention on `scaled_dot_product_attention`; derived in README.md beside it."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops.grouped_attention.fused import grouped_attention_fused
from mmeffvit.ops.precision import autocast_disabled, in_full
from mmeffvit.ops.sec_attention.reference import token_order


def _fast_token_order(k: Tensor) -> Tensor:
    """The reference's order: the norm of the mean key is a positive constant and left out.

    (B, L, h, d) -> (B, h, L).
    """
    with torch.no_grad(), autocast_disabled(k.device.type):
        k = in_full(k)
        centre = k.mean(dim=1)
        products = torch.einsum("blhd,bhd->bhl", k, centre)
        norms = torch.linalg.vector_norm(k, dim=-1).clamp_min(1e-12).transpose(1, 2)
        return (products / norms).argsort(dim=-1, stable=True)


def sec_attention_fused(
    q: Tensor, k: Tensor, v: Tensor, num_clusters: int, *, scale: float | None = None
) -> Tensor:
    """See :func:`mmeffvit.ops.sec_attention`."""
    if num_clusters <= 1:
        order = None
    elif torch.compiler.is_compiling():
        order = token_order(k)
    else:
        order = _fast_token_order(k)
    return grouped_attention_fused(q, k, v, num_clusters, order, scale=scale)
