"""Manhattan attention on `scaled_dot_product_attention`; derived in README.md beside it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops.manhattan_attention.decay import ManhattanDecay
from mmeffvit.ops.precision import autocast_disabled, full_dtype

#: numbers in a mask of all pairs of pixels that may be held, shared by the blocks of a stage
LARGEST_MASK = 2**24
#: weights made at a time beyond that: what a core's cache holds, or enough to fill a GPU
_CHUNK = {"cpu": 2**18, "other": 2**25}
#: products of fewer queries than this with all keys are too thin to be fast
_FEWEST_QUERIES = 32


def _queries_per_chunk(device: torch.device, weights_per_query: int) -> int:
    budget = _CHUNK.get(device.type, _CHUNK["other"])
    return max(_FEWEST_QUERIES, budget // weights_per_query)


def _buffer(memory: Tensor, *shape: int) -> Tensor:
    """The start of a flat piece of memory as a contiguous tensor."""
    return memory[: math.prod(shape)].view(shape)


class _ChunkedAttention(torch.autograd.Function):
    """The full form, some queries at a time, forward and backward.

    Masks and weights of a chunk are made when needed and again in the backward pass, which keeps
    q, k, v and the output alone.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, decay: ManhattanDecay, scale: float):
        tokens, heads = q.shape[1:3]
        size = min(tokens, _queries_per_chunk(q.device, heads * tokens))
        keys, values = k.transpose(1, 2), v.transpose(1, 2)
        memory = q.new_empty(heads * size * tokens)
        chunks = []
        for start in range(0, tokens, size):
            queries = q[:, start : start + size].transpose(1, 2)
            mask = _buffer(memory, heads, 1, queries.shape[2], tokens)
            decay.write(mask, start)
            chunk = F.scaled_dot_product_attention(
                queries, keys, values, attn_mask=mask.transpose(0, 1), scale=scale
            )
            chunks.append(chunk.transpose(1, 2))
        out = torch.cat(chunks, dim=1)
        ctx.save_for_backward(q, k, v, out)
        ctx.decay, ctx.scale = decay, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        with autocast_disabled(grad.device.type):
            q, k, v, out = ctx.saved_tensors
            grads = _gradients(q, k, v, out, grad, ctx.decay, ctx.scale)
            return *(g.to(t.dtype) for g, t in zip(grads, (q, k, v))), None, None


def _gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    grad: Tensor,
    decay: ManhattanDecay,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of softmax attention by q, k and v, in float32 at least."""
    batch, tokens, heads, _ = q.shape
    dtype = full_dtype(q.dtype)
    # (B, L, h, d) -> (h, B, L, d)
    q, k, v, out, grad = (
        t.permute(2, 0, 1, 3).to(dtype).contiguous() for t in (q, k, v, out, grad)
    )
    q = q * scale
    # what the softmax takes off the gradient of each query's weights
    centre = (out * grad).sum(-1, keepdim=True).neg_()
    grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    size = _queries_per_chunk(q.device, batch * tokens)
    # small maps: several heads at a time
    group = min(heads, max(1, size // tokens))
    # buffers are reused, so that they stay in the cache
    memory = [q.new_empty(group * batch * min(size, tokens) * tokens) for _ in range(2)]
    for head in range(0, heads, group):
        some = slice(head, head + group)
        # (h', B, L, d) -> (h' B, L, d)
        keys, values, all_queries, all_grads, centres = (
            t[some].flatten(0, 1) for t in (k, v, q, grad, centre)
        )
        sums = [t[some].flatten(0, 1) for t in (grad_q, grad_k, grad_v)]
        for start in range(0, tokens, size):
            rows = slice(start, start + size)
            queries, grad_out = all_queries[:, rows], all_grads[:, rows]
            shape = (*queries.shape[:2], tokens)
            logits, weights = (_buffer(m, *shape) for m in memory)
            decay.write(logits.unflatten(0, (-1, batch)), start, some)
            logits.baddbmm_(queries, keys.transpose(1, 2))
            torch.softmax(logits, -1, out=weights)
            sums[2].baddbmm_(weights.transpose(1, 2), grad_out)
            centre_rows = centres[:, rows].expand(shape)
            grad_logits = torch.baddbmm(centre_rows, grad_out, values.transpose(1, 2), out=logits)
            grad_logits.mul_(weights)
            sums[0][:, rows] = grad_logits @ keys
            sums[1].baddbmm_(grad_logits.transpose(1, 2), queries)
    return tuple(g.permute(1, 2, 0, 3) for g in (grad_q.mul_(scale), grad_k, grad_v))


def _full(q: Tensor, k: Tensor, v: Tensor, decay: ManhattanDecay, scale: float) -> Tensor:
    tokens, heads = q.shape[1:3]
    # a trace gets one call, whatever the size; asked first, so that it depends on no size
    if torch.compiler.is_compiling() or heads * tokens * tokens <= LARGEST_MASK:
        mask = decay.full(q.dtype)[None]
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return out.transpose(1, 2)
    return _ChunkedAttention.apply(q, k, v, decay, scale)


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
