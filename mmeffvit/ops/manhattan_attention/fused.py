"""Manhattan attention on `scaled_dot_product_attention`; derived in README.md beside it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.manhattan_attention.decay import BandMasks, ManhattanDecay

#: numbers in a mask of all pairs of pixels that may be held, shared by the blocks of a stage
LARGEST_MASK = 2**24
# queries of one product with all keys: fewer are slow in the backward pass of a CPU
_QUERIES_OF_A_BAND = {"cpu": 192, "other": 64}
# keys of bands at a time: each band has a gradient of all keys before they are added up
_KEYS_AT_A_TIME = 2**25
# columns of masks, as the kernels of GPUs want them aligned
_ALIGNMENT = {"cpu": 1, "other": 8}


def _full(q: Tensor, k: Tensor, v: Tensor, decay: ManhattanDecay, scale: float) -> Tensor:
    tokens, heads = q.shape[1:3]
    # a trace gets one call, whatever the size; asked first, so that it depends on no size
    if torch.compiler.is_compiling() or heads * tokens * tokens <= LARGEST_MASK:
        mask = decay.full(q.dtype)[None]
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return out.transpose(1, 2)
    return _in_bands(q, k, v, decay, scale)


def _in_bands(q: Tensor, k: Tensor, v: Tensor, decay: ManhattanDecay, scale: float) -> Tensor:
    """Bands of rows of queries as a batch, all with the same keys, and masks that are views."""
    height, width = decay.height, decay.width
    rows = min(height, -(-_of(_QUERIES_OF_A_BAND, q) // width))
    masks = decay.bands(rows, _of(_ALIGNMENT, q), q.dtype)
    # (B, h, keys, d), keys of zeros beyond the right edge
    k, v = (
        F.pad(t.unflatten(1, (height, width)), (0, 0, 0, 0, 0, masks.key_width - width))
        .flatten(1, 2)
        .transpose(1, 2)
        for t in (k, v)
    )
    bands, rest = divmod(height, rows)
    # the last band comes first, as in the masks
    q = q.unflatten(1, (height, width))
    whole = q[:, : bands * rows].unflatten(1, (bands, rows)).flip(1)
    outs = [_of_bands(whole, k, v, masks, int(rest > 0), scale).flip(1).flatten(1, 2)]
    if rest:
        outs.append(_of_bands(q[:, None, bands * rows :], k, v, masks, 0, scale).flatten(1, 2))
    return torch.cat(outs, 1).flatten(1, 2)


def _of_bands(
    q: Tensor, k: Tensor, v: Tensor, masks: BandMasks, first: int, scale: float
) -> Tensor:
    """(B, n, rows, W, h, d) queries of n bands to the same; keys and values are (B, h, L, d)."""
    rows = q.shape[2]
    q = q.flatten(2, 3).transpose(2, 3)
    at_a_time = max(1, _KEYS_AT_A_TIME // k[0].numel())
    samples = []
    for query, key, value in zip(q, k, v):
        chunks = []
        for start, chunk in zip(range(0, len(query), at_a_time), query.split(at_a_time)):
            mask = masks.view(first + start, len(chunk), rows)
            keys, values = (t.expand(len(chunk), -1, -1, -1) for t in (key, value))
            chunks.append(F.scaled_dot_product_attention(chunk, keys, values, mask, scale=scale))
        samples.append(torch.cat(chunks) if len(chunks) > 1 else chunks[0])
    return torch.stack(samples).transpose(2, 3).unflatten(2, (rows, -1))


def _of(by_device: dict[str, int], tensor: Tensor) -> int:
    return by_device.get(tensor.device.type, by_device["other"])


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
