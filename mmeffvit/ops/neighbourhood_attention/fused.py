"""Neighbourhood attention tile by tile; derived in README.md beside it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops.neighbourhood_attention.reference import neighbourhood_attention_reference
from mmeffvit.ops.neighbourhood_attention.tiles import MapTiles, map_tiles
from mmeffvit.ops.precision import autocast_disabled, full_dtype
from mmeffvit.ops.tables import cached_table

# logits that are worked on at a time: on a CPU they stay in the cache
_LOGITS_AT_A_TIME = {"cpu": 2**18}
_LOGITS_AT_A_TIME_ELSEWHERE = 2**26

#: name of this implementation as a node of compiled graphs
COMPILED_OP = "mmeffvit::neighbourhood_attention"

Size = tuple[int, int]


def neighbourhood_attention_fused(
    q: Tensor, k: Tensor, v: Tensor, kernel: Size, dilation: Size, *, scale: float | None = None
) -> Tensor:
    """See :func:`mmeffvit.ops.neighbourhood_attention`."""
    if q.device.type == "meta":
        # only shapes are asked for, or multiply-accumulates: those of the formula, without tiles
        return neighbourhood_attention_reference(q, k, v, kernel, dilation, scale=scale)
    batch, height, width, heads, head_dim = q.shape
    scale = head_dim**-0.5 if scale is None else scale
    # (B, H, W, h, d) -> (B*h, L, d): the keys of one head lie side by side
    q, k, v = (t.permute(0, 3, 1, 2, 4).reshape(batch * heads, -1, head_dim) for t in (q, k, v))
    with autocast_disabled(q.device.type):
        if torch.compiler.is_compiling():
            node = torch.ops.mmeffvit.neighbourhood_attention
            out = node(q, k, v, (height, width), kernel, dilation, scale)
        elif torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
            out = _NeighbourhoodAttention.apply(q, k, v, (height, width), kernel, dilation, scale)
        else:
            out = forward(q, k, v, (height, width), kernel, dilation, scale)
    return out.view(batch, heads, height, width, head_dim).permute(0, 2, 3, 1, 4)


class _NeighbourhoodAttention(torch.autograd.Function):
    """Keeps q, k, v and the output for backward, and computes the weights again there."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, *geometry) -> Tensor:
        out = forward(q, k, v, *geometry)
        ctx.save_for_backward(q, k, v, out)
        ctx.geometry = geometry
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        with autocast_disabled(grad.device.type):
            grads = backward(grad.contiguous(), *ctx.saved_tensors, *ctx.geometry)
        return *grads, None, None, None, None


def forward(
    q: Tensor, k: Tensor, v: Tensor, size: Size, kernel: Size, dilation: Size, scale: float
) -> Tensor:
    """(B*h, L, d) queries, keys and values of a map of H x W to the same."""
    out = torch.empty_like(v)
    for tiles in map_tiles(*size, kernel, dilation):
        query_tokens, key_tokens, mask = _tables(tiles, q.device, q.dtype)
        for heads, chunk in _chunks(tiles, q):
            queries, keys = query_tokens[chunk], key_tokens[chunk]
            rows = _gather(q[heads], queries), _gather(k[heads], keys), _gather(v[heads], keys)
            attended = F.scaled_dot_product_attention(*rows, attn_mask=mask, scale=scale)
            out[heads].index_copy_(1, queries.flatten(), attended.flatten(1, 2))
    return out


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    size: Size,
    kernel: Size,
    dilation: Size,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, from that of `out`."""
    # at least float32: a key sums the gradients of all windows it is in
    dtype = full_dtype(q.dtype)
    grad_q = torch.empty_like(q)
    grad_k, grad_v = (torch.zeros_like(t, dtype=dtype) for t in (k, v))
    if q.device.type == "cpu":
        tile_gradients, add = _explicit_gradients, _add_rectangles
    else:
        tile_gradients, add = _recomputed_gradients, _add_tokens
    for tiles in map_tiles(*size, kernel, dilation):
        query_tokens, key_tokens, mask = _tables(tiles, q.device, dtype)
        for heads, chunk in _chunks(tiles, q):
            queries, keys = query_tokens[chunk], key_tokens[chunk]
            rows = [_gather(t[heads], queries) for t in (q, grad, out)]
            windows = [_gather(t[heads], keys) for t in (k, v)]
            dq, dk, dv = tile_gradients(*rows, *windows, mask, scale)
            grad_q[heads].index_copy_(1, queries.flatten(), dq.flatten(1, 2).to(q.dtype))
            for total, part in ((grad_k[heads], dk), (grad_v[heads], dv)):
                add(total, part, tiles, chunk, keys, size)
    return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype)


def _explicit_gradients(
    q: Tensor, grad: Tensor, out: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of softmax attention from its output, without running it forward again.

    All tensors are (heads, tiles, tokens, d). On a CPU this is faster than the backward pass of
    `scaled_dot_product_attention`, which would need the forward pass before it.
    """
    dtype = full_dtype(q.dtype)
    lead = q.shape[:2]
    q, grad, out, k, v = (t.flatten(0, 1).to(dtype) for t in (q, grad, out, k, v))
    q = q * scale
    if mask is None:
        weights = torch.bmm(q, k.transpose(1, 2))
    else:
        weights = torch.baddbmm(mask, q, k.transpose(1, 2))
    weights = weights.softmax(-1)
    dv = torch.bmm(weights.transpose(1, 2), grad)
    dlogits = torch.bmm(grad, v.transpose(1, 2))
    dlogits.sub_((grad * out).sum(-1, keepdim=True)).mul_(weights)
    dq = torch.bmm(dlogits, k).mul_(scale)
    dk = torch.bmm(dlogits.transpose(1, 2), q)
    return dq.unflatten(0, lead), dk.unflatten(0, lead), dv.unflatten(0, lead)


def _recomputed_gradients(
    q: Tensor, grad: Tensor, out: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The same through the device's own attention kernels, which run forward once more."""
    inputs = [t.detach().requires_grad_() for t in (q, k, v)]
    mask = None if mask is None else mask.to(q.dtype)
    with torch.enable_grad():
        attended = F.scaled_dot_product_attention(*inputs, attn_mask=mask, scale=scale)
    return torch.autograd.grad(attended, inputs, grad)


def _chunks(tiles: MapTiles, q: Tensor) -> Iterator[tuple[slice, slice]]:
    """Heads (of the batch) and tiles, few enough at a time."""
    limit = _LOGITS_AT_A_TIME.get(q.device.type, _LOGITS_AT_A_TIME_ELSEWHERE)
    per_tile = tiles.num_queries * tiles.num_keys
    heads_at_a_time = min(max(1, limit // per_tile), q.shape[0])
    tiles_at_a_time = max(1, limit // (per_tile * heads_at_a_time))
    for tile in range(0, tiles.count, tiles_at_a_time):
        for head in range(0, q.shape[0], heads_at_a_time):
            yield slice(head, head + heads_at_a_time), slice(tile, tile + tiles_at_a_time)


def _gather(x: Tensor, tokens: Tensor) -> Tensor:
    """(heads, L, d) and (tiles, n) -> (heads, tiles, n, d)."""
    return x.index_select(1, tokens.flatten()).unflatten(1, tokens.shape)


def _add_rectangles(
    total: Tensor, parts: Tensor, tiles: MapTiles, chunk: slice, keys: Tensor, size: Size
) -> None:
    """Add (heads, tiles, keys, d) to the tokens that the windows were gathered from.

    On a CPU, adding rectangles is many times faster than adding rows by their numbers.
    """
    total = total.unflatten(1, size)
    parts = parts.unflatten(2, (tiles.rows.window, tiles.columns.window))
    for tile, part in enumerate(parts.unbind(1), start=chunk.start):
        rows, columns = tiles.key_slices(tile)
        total[:, rows, columns] += part


def _add_tokens(
    total: Tensor, parts: Tensor, tiles: MapTiles, chunk: slice, keys: Tensor, size: Size
) -> None:
    """The same in one call, for devices where many small ones are slow."""
    total.index_add_(1, keys.flatten(), parts.flatten(1, 2).to(total.dtype))


@cached_table(maxsize=512)
def _tables(
    tiles: MapTiles, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(tiles, queries) and (tiles, keys) tokens, and the mask that all these tiles share."""
    mask = None if tiles.dense else tiles.mask(device, dtype)
    return tiles.query_tokens(device), tiles.key_tokens(device), mask
