"""Neighbourhood attention tile by tile; derived in README.md beside it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops.neighbourhood_attention.reference import neighbourhood_attention_reference
from mmeffvit.ops.neighbourhood_attention.tiles import MapTiles, map_tiles
from mmeffvit.ops.precision import autocast_disabled, full_dtype, in_full
from mmeffvit.ops.tables import cached_table

# logits that are worked on at a time: on a CPU they stay in the cache
_LOGITS_AT_A_TIME = {"cpu": 2**18}
_LOGITS_AT_A_TIME_ELSEWHERE = 2**26

#: name of this implementation as a node of compiled graphs
COMPILED_OP = "mmeffvit::neighbourhood_attention"

Size = tuple[int, int]


def neighbourhood_attention_fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kernel: Size,
    dilation: Size,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.neighbourhood_attention`."""
    if q.device.type == "meta":
        # only shapes are asked for, or multiply-accumulates: those of the formula, without tiles
        options = {"bias": bias, "scale": scale}
        return neighbourhood_attention_reference(q, k, v, kernel, dilation, **options)
    batch, height, width, heads, head_dim = q.shape
    geometry = ((height, width), tuple(k.shape[1:3]), kernel, dilation)
    scale = head_dim**-0.5 if scale is None else scale
    # (B, H, W, h, d) -> (B*h, L, d): the keys of one head lie side by side
    # one copy: of one sample `reshape` makes a view, and each gather from it would copy the map
    q, k, v = (
        t.permute(0, 3, 1, 2, 4).reshape(batch * heads, -1, head_dim).contiguous()
        for t in (q, k, v)
    )
    with autocast_disabled(q.device.type):
        if torch.compiler.is_compiling():
            attend = torch.ops.mmeffvit.neighbourhood_attention
        elif torch.is_grad_enabled() and any(
            t is not None and t.requires_grad for t in (q, k, v, bias)
        ):
            attend = _NeighbourhoodAttention.apply
        else:
            attend = forward
        out = attend(q, k, v, bias, *geometry, scale)
    return out.view(batch, heads, height, width, head_dim).permute(0, 2, 3, 1, 4)


class _NeighbourhoodAttention(torch.autograd.Function):
    """Keeps q, k, v and the output for backward, and computes the weights again there."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *geometry) -> Tensor:
        out = forward(q, k, v, bias, *geometry)
        ctx.save_for_backward(q, k, v, bias, out)
        ctx.geometry = geometry
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        with autocast_disabled(grad.device.type):
            grads = backward(grad.contiguous(), *ctx.saved_tensors, *ctx.geometry)
        return *grads, *(None for _ in ctx.geometry)


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    size: Size,
    key_size: Size,
    kernel: Size,
    dilation: Size,
    scale: float,
) -> Tensor:
    """(B*h, L, d) queries of a map of H x W, keys and values of H' x W', to (B*h, L, d)."""
    out = torch.empty_like(q)
    for tiles in map_tiles(size, key_size, kernel, dilation, by_distance=bias is not None):
        query_tokens, key_tokens, mask = _tables(tiles, q.device, q.dtype)
        mask = _with_bias(mask, bias, tiles, q.dtype)
        for heads, chunk in _chunks(tiles, q):
            queries, keys = query_tokens[chunk], key_tokens[chunk]
            rows = _gather(q[heads], queries), _gather(k[heads], keys), _gather(v[heads], keys)
            attended = F.scaled_dot_product_attention(
                *rows, attn_mask=_of_heads(mask, heads, q), scale=scale
            )
            out[heads].index_copy_(1, queries.flatten(), attended.flatten(1, 2))
    return out


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    out: Tensor,
    size: Size,
    key_size: Size,
    kernel: Size,
    dilation: Size,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of q, k, v and the bias, from that of `out`."""
    # at least float32: a key sums the gradients of all windows it is in
    dtype = full_dtype(q.dtype)
    grad_q = torch.empty_like(q)
    grad_k, grad_v = (torch.zeros_like(t, dtype=dtype) for t in (k, v))
    grad_bias = None if bias is None else torch.zeros_like(bias, dtype=dtype)
    if q.device.type == "cpu":
        tile_gradients, add = _explicit_gradients, _add_rectangles
    else:
        tile_gradients, add = _recomputed_gradients, _add_tokens
    for tiles in map_tiles(size, key_size, kernel, dilation, by_distance=bias is not None):
        query_tokens, key_tokens, mask = _tables(tiles, q.device, dtype)
        mask = _with_bias(mask, bias, tiles, dtype)
        for heads, chunk in _chunks(tiles, q):
            queries, keys = query_tokens[chunk], key_tokens[chunk]
            rows = [_gather(t[heads], queries) for t in (q, grad, out)]
            windows = [_gather(t[heads], keys) for t in (k, v)]
            dq, dk, dv, dmask = tile_gradients(*rows, *windows, _of_heads(mask, heads, q), scale)
            grad_q[heads].index_copy_(1, queries.flatten(), dq.flatten(1, 2).to(q.dtype))
            for total, part in ((grad_k[heads], dk), (grad_v[heads], dv)):
                add(total, part, tiles, chunk, keys, key_size)
            if bias is not None:
                by_place = dmask.new_zeros(len(dmask), bias[0].numel())
                by_place.index_add_(1, _places(tiles, q.device), dmask.flatten(1))
                grad_bias.flatten(1).index_add_(0, _numbers(heads, q, len(bias)), by_place)
    if bias is not None:
        grad_bias = grad_bias.to(bias.dtype)
    return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), grad_bias


def _explicit_gradients(
    q: Tensor, grad: Tensor, out: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of softmax attention from its output, without running it forward again.

    All tensors are (heads, tiles, tokens, d), the mask (queries, keys), or (heads, 1, queries,
    keys) with a gradient (heads, queries, keys). On a CPU this is faster than the backward pass of
    `scaled_dot_product_attention`, which would need the forward pass before it.
    """
    dtype = full_dtype(q.dtype)
    lead = q.shape[:2]
    q, grad, out, k, v = (t.flatten(0, 1).to(dtype) for t in (q, grad, out, k, v))
    q = q * scale
    if mask is None:
        weights = torch.bmm(q, k.transpose(1, 2))
    else:
        weights = torch.baddbmm(_for_tiles(mask, lead), q, k.transpose(1, 2))
    weights = weights.softmax(-1)
    dv = torch.bmm(weights.transpose(1, 2), grad)
    dlogits = torch.bmm(grad, v.transpose(1, 2))
    dlogits.sub_((grad * out).sum(-1, keepdim=True)).mul_(weights)
    dmask = dlogits.unflatten(0, lead).sum(1) if _has_gradient(mask) else None
    dq = torch.bmm(dlogits, k).mul_(scale)
    dk = torch.bmm(dlogits.transpose(1, 2), q)
    return dq.unflatten(0, lead), dk.unflatten(0, lead), dv.unflatten(0, lead), dmask


def _recomputed_gradients(
    q: Tensor, grad: Tensor, out: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The same through the device's own attention kernels, which run forward once more."""
    inputs = [t.detach().requires_grad_() for t in (q, k, v)]
    if mask is not None:
        mask = mask.to(q.dtype)
    if _has_gradient(mask):
        inputs.append(mask.requires_grad_())
    with torch.enable_grad():
        attended = F.scaled_dot_product_attention(*inputs[:3], attn_mask=mask, scale=scale)
    dq, dk, dv, *dmask = torch.autograd.grad(attended, inputs, grad)
    return dq, dk, dv, in_full(dmask[0].squeeze(1)) if dmask else None


def _has_gradient(mask: Tensor | None) -> bool:
    """Whether a mask holds a bias of its own for every head."""
    return mask is not None and mask.dim() == 4


def _for_tiles(mask: Tensor, lead: torch.Size) -> Tensor:
    """(queries, keys) or (heads, 1, queries, keys) to (heads * tiles, queries, keys)."""
    return mask.expand(*lead, *mask.shape[-2:]).flatten(0, 1)


def _with_bias(
    mask: Tensor | None, bias: Tensor | None, tiles: MapTiles, dtype: torch.dtype
) -> Tensor | None:
    """(h, 1, queries, keys) mask of tiles with the bias in it; the mask alone without a bias."""
    if bias is None:
        return mask
    added = bias.flatten(1).to(dtype).index_select(1, _places(tiles, bias.device))
    added = added.view(len(bias), 1, tiles.num_queries, tiles.num_keys)
    return added if mask is None else added + mask


def _of_heads(mask: Tensor | None, heads: slice, q: Tensor) -> Tensor | None:
    """The part of a mask for some of the B*h rows of q."""
    return mask[_numbers(heads, q, len(mask))] if _has_gradient(mask) else mask


def _numbers(heads: slice, q: Tensor, num_heads: int) -> Tensor:
    """Numbers of the heads in their samples: q is (B*h, L, d)."""
    return torch.arange(heads.start, min(heads.stop, len(q)), device=q.device) % num_heads


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


@cached_table(maxsize=512)
def _places(tiles: MapTiles, device: torch.device) -> Tensor:
    """(queries * keys) places in a flat table of relative distances."""
    return tiles.relative(device)
