"""The formula of attention inside the windows of a map."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops.map_window_attention.windows import Window, from_windows, to_windows
from mmeffvit.ops.precision import in_full_precision


@in_full_precision
def map_window_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: Window,
    padding: str = "even",
    *,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.map_window_attention`."""
    size, head_dim = q.shape[1:3], q.shape[-1]
    scale = head_dim**-0.5 if scale is None else scale
    # (B * windows, r, c, h, d)
    q, k, v = (to_windows(t, window, padding) for t in (q, k, v))
    weights = torch.einsum("nrchd,nyxhd->nhrcyx", q * scale, k).flatten(-2).softmax(-1)
    out = torch.einsum("nhrcm,nmhd->nrchd", weights, v.flatten(1, 2))
    return from_windows(out, size, window, padding)
