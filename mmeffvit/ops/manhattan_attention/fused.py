"""Manhattan attention on `scaled_dot_product_attention`; derived in README.md beside it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.chunked_attention import chunked_attention
from mmeffvit.ops.manhattan_attention.decay import ManhattanDecay

#: numbers in a mask of all pairs of pixels that may be held, shared by the blocks of a stage
LARGEST_MASK = 2**24


def _full(q: Tensor, k: Tensor, v: Tensor, decay: ManhattanDecay, scale: float) -> Tensor:
    tokens, heads = q.shape[1:3]
    # a trace gets one call, whatever the size; asked first, so that it depends on no size
    if torch.compiler.is_compiling() or heads * tokens * tokens <= LARGEST_MASK:
        mask = decay.full(q.dtype)[None]
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return out.transpose(1, 2)
    return chunked_attention(q, k, v, scale, lambda: decay)


def _inside_rows(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Attention inside each row of (B, H, W, h, d) maps, with a mask (h, W, W)."""
    shape = q.shape
    q, k, v = (t.flatten(0, 1).transpose(1, 2) for t in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype)[None], scale=scale)
    return out.transpose(1, 2).view(shape)


def _decomposed(q: Tensor, k: Tensor, v: Tensor, decay: ManhattanDecay, scale: float) -> Tensor:
    q, k, v = (t.unflatten(1, (decay.height, decay.width)) for t in (q, k, v))
    v = _inside_rows(q, k, v, decay.along_width, scale)
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    v = _inside_rows(q, k, v, decay.along_height, scale)
    return v.transpose(1, 2).flatten(1, 2)


def manhattan_attention_fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: ManhattanDecay,
    *,
    decomposed: bool = False,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.manhattan_attention`."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return (_decomposed if decomposed else _full)(q, k, v, decay, scale)
