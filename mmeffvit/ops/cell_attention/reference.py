"""The formula of attention to a few candidates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.precision import autocast_disabled, in_full


def cell_attention_reference(
    q: Tensor, x: Tensor, weight: Tensor, bias: Tensor, valid: Tensor | None = None
) -> Tensor:
    """See :func:`mmeffvit.ops.cell_attention`."""
    heads, dim = q.shape[2:]
    with autocast_disabled(q.device.type):
        query, x, weight, bias = (in_full(t) for t in (q, x, weight, bias))
        k, v = F.linear(x, weight, bias).unflatten(-1, (2, heads, dim)).unbind(3)
        logits = torch.einsum("blhd,blkhd->blhk", query, k) * dim**-0.5
        if valid is not None:
            logits = logits.masked_fill(~valid[:, None], -torch.inf)
        return torch.einsum("blhk,blkhd->blhd", logits.softmax(-1), v).to(q.dtype)
