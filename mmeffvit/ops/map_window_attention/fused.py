"""Windows as the batch of `scaled_dot_product_attention`; derived in README.md beside it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.map_window_attention.windows import Window, from_windows, to_windows


def map_window_attention_fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: Window,
    padding: str = "even",
    *,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.map_window_attention`."""
    size = q.shape[1:3]
    q, k, v = (to_windows(t, window, padding) for t in (q, k, v))
    shape = q.shape[1:3]
    # (B * windows, h, r * c, d)
    q, k, v = (t.flatten(1, 2).transpose(1, 2) for t in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)
    return from_windows(out.unflatten(1, shape), size, window, padding)
