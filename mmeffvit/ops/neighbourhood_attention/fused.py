"""Neighbourhood attention tile by tile; derived in README.md beside it.

Letters beside those of shapes are those of `strips.py`: tiles of queries are (T, N, t t, d), their
windows (T, N, w w, d), for T tiles of each of N = B h P P S strips.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops.neighbourhood_attention.reference import neighbourhood_attention_reference
from mmeffvit.ops.neighbourhood_attention.strips import MapTiles, Strips, cut_map
from mmeffvit.ops.neighbourhood_attention.tiles import AxisTiles, Size
from mmeffvit.ops.precision import autocast_disabled, full_dtype
from mmeffvit.ops.tables import cached_table

# numbers of keys, or of gradients of windows, that are held at a time: below what allocators of
# CPUs ask the system for anew; and logits, where they are spelt out: they stay in the cache
_NUMBERS_AT_A_TIME = {"cpu": 2**22}
_LOGITS_AT_A_TIME = {"cpu": 2**18}
_AT_A_TIME_ELSEWHERE = 2**27

#: name of this implementation as a node of compiled graphs
COMPILED_OP = "mmeffvit::neighbourhood_attention"


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
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    with autocast_disabled(q.device.type):
        if torch.compiler.is_compiling():
            return torch.ops.mmeffvit.neighbourhood_attention(
                q, k, v, bias, kernel, dilation, scale
            )[0]
        if torch.is_grad_enabled() and any(
            t is not None and t.requires_grad for t in (q, k, v, bias)
        ):
            return _NeighbourhoodAttention.apply(q, k, v, bias, kernel, dilation, scale)
        return forward(q, k, v, bias, kernel, dilation, scale)[0]


class _NeighbourhoodAttention(torch.autograd.Function):
    """Keeps q, k, v, the output and its normaliser, and computes the weights again in backward."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *options) -> Tensor:
        out, normaliser = forward(q, k, v, bias, *options, keep=True)
        ctx.save_for_backward(q, k, v, bias, out, normaliser)
        ctx.options = options
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        with autocast_disabled(grad.device.type):
            grads = backward(grad, *ctx.saved_tensors, *ctx.options)
        return *grads, *(None for _ in ctx.options)


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    kernel: Size,
    dilation: Size,
    scale: float,
    keep: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """The operator, and if `keep` says so what its backward pass needs beside inputs and output.

    Returns:
        (B, H, W, h, d), and (B, H, W, h, 1): log-sum-exp of the logits, None where none is needed.
    """
    height, width = q.shape[1:3]
    cut = cut_map((height, width), tuple(k.shape[1:3]), kernel, dilation)
    q, k, v = cut.padded_queries(q), cut.padded_keys(k), cut.padded_keys(v)
    out, normaliser = torch.empty_like(q, memory_format=torch.contiguous_format), None
    if keep and keeps_normaliser(q.device.type, bias):
        normaliser = out.new_empty(*out.shape[:4], 1, dtype=full_dtype(q.dtype))
    for strips in cut.strips(lambda strip: strip.numbers(k), _limit(_NUMBERS_AT_A_TIME, q)):
        keys, values = (strips.copy(t, t.dtype) for t in (k, v))
        for tiles in strips.tiles():
            mask = _mask(tiles, bias, q.device, q.dtype)
            lead = (len(q), q.shape[3], *strips.lead)
            rows, windows = tiles.queries(q, q.dtype), (tiles.windows(keys), tiles.windows(values))
            attended, sums = _attend(rows, *windows, mask, scale, lead)
            tiles.write(out, attended)
            if normaliser is not None:
                tiles.write(normaliser, sums)
    if normaliser is not None:
        normaliser = normaliser[:, :height, :width]
    return out[:, :height, :width], normaliser


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    out: Tensor,
    normaliser: Tensor | None,
    kernel: Size,
    dilation: Size,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of q, k, v and the bias, from that of the output."""
    # at least float32: a key sums the gradients of all windows it is in
    dtype = full_dtype(q.dtype)
    (height, width), (rows, columns) = q.shape[1:3], k.shape[1:3]
    cut = cut_map((height, width), (rows, columns), kernel, dilation)
    of_queries = [cut.padded_queries(t) for t in (q, grad, out, normaliser) if t is not None]
    k, v = cut.padded_keys(k), cut.padded_keys(v)
    grad_q = torch.empty_like(of_queries[0], memory_format=torch.contiguous_format)
    grad_k, grad_v = (torch.zeros(k.shape, dtype=dtype, device=k.device) for _ in range(2))
    grad_bias = None if bias is None else torch.zeros_like(bias, dtype=dtype)
    gradients = _gradients_for(q.device.type, bias)
    held = _logits_held if gradients is _explicit_gradients else _numbers_held
    limit = _limit(_LOGITS_AT_A_TIME if held is _logits_held else _NUMBERS_AT_A_TIME, q)
    for strips in cut.strips(lambda strip: held(strip, k), limit):
        keys, values = (strips.copy(t, dtype) for t in (k, v))
        lead = (len(k), k.shape[3], *strips.lead)
        sums = [_zeros_like(keys, rows_first=held is _numbers_held) for _ in range(2)]
        for tiles in strips.tiles():
            tokens = [tiles.queries(t, dtype) for t in of_queries]
            tiles.clear_beyond(tokens[1])
            mask = _mask(tiles, bias, q.device, dtype)
            dq, dmask = gradients(tiles, tokens, (keys, values), sums, mask, scale, lead)
            tiles.write(grad_q, dq.unflatten(1, lead))
            if dmask is not None:
                places = _places(tiles.down.distances, tiles.across.distances, q.device)
                grad_bias.flatten(1).index_add_(1, places.flatten(), dmask.flatten(1))
        strips.add(grad_k, sums[0])
        strips.add(grad_v, sums[1])
    return (
        grad_q[:, :height, :width],
        *(total[:, :rows, :columns].to(k.dtype) for total in (grad_k, grad_v)),
        None if bias is None else grad_bias.to(bias.dtype),
    )


def keeps_normaliser(device: str, bias: Tensor | None) -> bool:
    """Whether the backward pass wants the log-sum-exp of all logits."""
    return _gradients_for(device, bias) is _flash_gradients


def _gradients_for(device: str, bias: Tensor | None) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """What computes the gradients of some tiles.

    It takes tiles; queries, gradients and outputs (T, N, t t, d), and log-sum-exp (T, N, t t, 1) if
    that is kept; strips (N, R, w, d) of keys and of values; strips that the gradients of both are
    added to; mask; scale; and (B, h, P, P, S). It returns the gradients of the queries, and those
    of the mask if that holds a bias.
    """
    if device != "cpu":
        return _recomputed_gradients
    # torch's kernel for CPUs has no gradients of a mask
    return _flash_gradients if bias is None else _explicit_gradients


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, lead: tuple[int, ...]
) -> tuple[Tensor, Tensor | None]:
    """Attention of tiles to their windows: (T, B, h, P, P, S, t t, d), and (.., 1) log-sum-exp."""
    shape = (len(q), *lead)
    q, k, v, mask = _of_heads(q, k, v, mask, lead)
    if q.device.type == "cpu":
        # what F.scaled_dot_product_attention calls, with the log-sum-exp that it has anyway
        out, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, attn_mask=mask, scale=scale
        )
        return out.view(*shape, *out.shape[2:]), sums.view(*shape, -1, 1)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return out.view(*shape, *out.shape[2:]), None


def _of_heads(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, lead: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Tiles (T, N, tokens, d) and a mask that attention kernels take beside them.

    A bias differs between heads and not between phases. A single row of tiles has room for both,
    (B h, P P S, tokens, d); else the bias is repeated.
    """
    if mask is None or mask.dim() == 2:
        return q, k, v, mask
    batch, heads, *phases, strips = lead
    phases = math.prod(phases)
    mask = mask.transpose(0, 1)
    # (T, h, S, t t, w w) -> (T, B, h, P P, S, ..)
    mask = mask[:, None, :, None]
    if len(q) == 1:
        q, k, v = (t[0].unflatten(0, (batch * heads, -1)) for t in (q, k, v))
        phases = phases if mask.shape[4] > 1 else 1
        mask = mask[0].expand(batch, -1, phases, -1, -1, -1).flatten(0, 1).flatten(1, 2)
        return q, k, v, mask
    mask = mask.expand(-1, batch, -1, phases, strips, -1, -1)
    return q, k, v, mask.flatten(1, 4)


def _flash_gradients(tiles, tokens, strips, sums, mask, scale, lead) -> tuple[Tensor, None]:
    """By the kernel for CPUs that `scaled_dot_product_attention` has for its own gradients."""
    q, grad, out, normaliser = tokens
    dq, *parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad,
        q,
        *(tiles.windows(t) for t in strips),
        out,
        normaliser.squeeze(-1),
        0.0,
        False,
        attn_mask=mask,
        scale=scale,
    )
    for total, part in zip(sums, parts):
        tiles.add(total, part)
    return dq, None


def _explicit_gradients(tiles, tokens, strips, sums, mask, scale, lead) -> tuple[Tensor, Tensor]:
    """Written out, without running attention forward again; of a mask (h, T, S, t t, w w)."""
    q, grad, out = tokens
    keys, values, dkeys, dvalues = (tiles.windows(t) for t in (*strips, *sums))
    q = q * scale
    means = (grad * out).sum(-1, keepdim=True)
    dq, dmask = torch.empty_like(q), torch.zeros_like(mask)
    for tile in range(len(q)):
        row = min(tile, mask.shape[1] - 1)
        for heads, rows in _some_heads(lead, tiles.num_queries * tiles.num_keys, mask.shape[2]):
            here = tile, rows
            weights = torch.bmm(q[here], keys[here].mT)
            # (heads, P P, S, t t, w w), or (heads, P P S, 1, ..) if strips are alike
            by_head = (len(heads), -1, *mask.shape[2:])
            weights.view(by_head).add_(mask[:, row].index_select(0, heads).unsqueeze(1))
            weights = weights.softmax(-1)
            dvalues[here].baddbmm_(weights.mT, grad[here])
            dlogits = torch.bmm(grad[here], values[here].mT).sub_(means[here]).mul_(weights)
            dmask[:, row].index_add_(0, heads, dlogits.view(by_head).sum(1))
            torch.bmm(dlogits, keys[here], out=dq[here])
            dkeys[here].baddbmm_(dlogits.mT, q[here])
    return dq.mul_(scale), dmask


def _some_heads(lead: tuple[int, ...], logits: int, strips: int) -> Iterator[tuple[Tensor, slice]]:
    """Parts of N = B h P P S, with few logits at a time: the heads there, and where they are.

    Args:
        lead: (B, h, P, P, S).
        logits: Of each of the N.
        strips: How many of S must stay together.
    """
    samples, num_heads, *phases = lead
    per_head = math.prod(phases)
    at_a_time = max(strips, _LOGITS_AT_A_TIME["cpu"] // logits)
    if at_a_time >= per_head:
        count = at_a_time // per_head
        for first in range(0, samples * num_heads, count):
            last = min(first + count, samples * num_heads)
            yield torch.arange(first, last) % num_heads, slice(first * per_head, last * per_head)
        return
    count = at_a_time // strips * strips
    for head in range(samples * num_heads):
        number, end = torch.tensor([head % num_heads]), (head + 1) * per_head
        for first in range(head * per_head, end, count):
            yield number, slice(first, min(first + count, end))


def _recomputed_gradients(
    tiles, tokens, strips, sums, mask, scale, lead
) -> tuple[Tensor, Tensor | None]:
    """By the device's own attention kernels, which run forward once more."""
    q, grad, _ = tokens
    inputs = [t.detach().requires_grad_() for t in (q, *(tiles.windows(t) for t in strips))]
    biased = mask is not None and mask.dim() == 5
    if biased:
        inputs.append(mask.detach().requires_grad_())
        mask = inputs[-1]
    with torch.enable_grad():
        *attending, mask = _of_heads(*inputs[:3], mask, lead)
        attended = F.scaled_dot_product_attention(*attending, attn_mask=mask, scale=scale)
    dq, *parts = torch.autograd.grad(attended, inputs, grad.view_as(attended))
    for total, part in zip(sums, parts):
        tiles.add(total, part)
    return dq, parts[2] if biased else None


def _mask(
    tiles: MapTiles, bias: Tensor | None, device: torch.device, dtype: torch.dtype
) -> Tensor | None:
    """(t t, w w) 0 where a query attends to a key and -inf elsewhere, None if they all do.

    With a bias in it, (h, T, S, t t, w w); T and S are 1 where all tiles are alike.
    """
    mask = None
    if not (tiles.down.dense and tiles.across.dense):
        mask = _allowed(tiles.down.offsets_alone, tiles.across.offsets_alone, device, dtype)
    if bias is None:
        return mask
    places = _places(tiles.down.distances, tiles.across.distances, device)
    added = bias.flatten(1).to(dtype).index_select(1, places.flatten())
    added = added.view(len(bias), *places.shape)
    return added if mask is None else added + mask


@cached_table(maxsize=128)
def _allowed(
    rows: AxisTiles, columns: AxisTiles, device: torch.device, dtype: torch.dtype
) -> Tensor:
    down, across = rows.allowed(device), columns.allowed(device)
    allowed = (down[:, None, :, None] & across[None, :, None, :]).flatten(2, 3).flatten(0, 1)
    return torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill_(~allowed, -torch.inf)


@cached_table(maxsize=128)
def _places(rows: AxisTiles, columns: AxisTiles, device: torch.device) -> Tensor:
    """(T, S, t t, w w) places in a flat table of (2 k_h - 1) x (2 k_w - 1) distances."""
    down, across = rows.relative(device), columns.relative(device)
    # (T, S, t, t, w, w)
    down, across = down[:, None, :, None, :, None], across[None, :, None, :, None, :]
    return (down * (2 * columns.kernel - 1) + across).flatten(4, 5).flatten(2, 3)


def _numbers_held(strip: Strips, x: Tensor) -> int:
    """Of the gradients of all windows of one strip."""
    lead = len(x) * x.shape[3] * math.prod(strip.lead)
    return max(lead * t.down.count * t.num_keys * x.shape[4] for t in strip.tiles())


def _logits_held(strip: Strips, x: Tensor) -> int:
    """Of one tile of one strip in all samples, heads and phases."""
    lead = len(x) * x.shape[3] * math.prod(strip.lead)
    return max(lead * t.num_queries * t.num_keys for t in strip.tiles())


def _limit(at_a_time: dict[str, int], x: Tensor) -> int:
    return at_a_time.get(x.device.type, _AT_A_TIME_ELSEWHERE)


def _zeros_like(strips: Tensor, rows_first: bool) -> Tensor:
    """Zeros (N, R, w, d); in memory as (R, w, N, d), if attention kernels' gradients are so."""
    if not rows_first:
        return torch.zeros_like(strips)
    lead, *tokens, dim = strips.shape
    return strips.new_zeros(*tokens, lead, dim).permute(2, 0, 1, 3)
