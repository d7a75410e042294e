"""Softmax attention with a mask that is never whole: some queries at a time, forward and backward.

Derived in `polyline_attention/README.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops.precision import autocast_disabled, full_dtype

#: weights made at a time: what a core's cache holds, or enough to fill a GPU
_CHUNK = {"cpu": 2**18, "other": 2**25}
#: products of fewer queries than this with all keys are too thin to be fast
_FEWEST_QUERIES = 32


class Mask(Protocol):
    """What is added to the logits of L queries and keys, made where it is needed.

    Attributes:
        samples: 1 if all samples of a batch share it, else their number.
        unit: Chunks begin at multiples of so many queries; L is one.
    """

    samples: int
    unit: int

    def write(self, out: Tensor, start: int, heads: slice) -> None:
        """Write the rows of n queries from `start` on into (h', B, n, L), for h' heads."""

    def collect(self, grad: Tensor, start: int, heads: slice) -> None:
        """Take the gradient of what :meth:`write` wrote; `grad` may be overwritten."""

    def gradients(self) -> tuple[Tensor, ...]:
        """Gradients of the tensors that the mask was made of, from all that was collected."""


def chunked_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, make_mask: Callable[..., Mask], *places: Tensor
) -> Tensor:
    """``softmax(scale q k^T + mask) v`` with memory that is linear in L, and first derivatives.

    Args:
        q: (B, L, h, d) queries.
        k: (B, L, h, d) keys.
        v: (B, L, h, e) values.
        scale: Factor of the products of queries and keys.
        make_mask: Makes the mask of `places`; called again in the backward pass.
        *places: Tensors that the mask depends on, which get gradients.

    Returns:
        (B, L, h, e).
    """
    return _ChunkedAttention.apply(q, k, v, scale, make_mask, *places)


def weights_per_chunk(device: torch.device) -> int:
    """How many weights are made at a time."""
    return _CHUNK.get(device.type, _CHUNK["other"])


def queries_per_chunk(device: torch.device, weights_per_query: int, unit: int = 1) -> int:
    """How many queries a chunk has, a multiple of `unit`."""
    budget = weights_per_chunk(device)
    return max(_FEWEST_QUERIES, budget // weights_per_query, unit) // unit * unit


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """`scaled_dot_product_attention` of (B, h, n, d), whose kernels want values as wide as keys."""
    parts = [
        F.scaled_dot_product_attention(q, k, part, attn_mask=mask, scale=scale)
        for part in v.split(q.shape[-1], -1)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def buffer(memory: Tensor, *shape: int) -> Tensor:
    """The start of a flat piece of memory as a contiguous tensor."""
    return memory[: math.prod(shape)].view(shape)


class _ChunkedAttention(torch.autograd.Function):
    """Masks and weights of a chunk are made when needed and again in the backward pass.

    What is kept is q, k, v, the output and what the mask is made of.
    """

    @staticmethod
    def forward(ctx, q, k, v, scale, make_mask, *places):
        mask = make_mask(*places)
        tokens, heads = q.shape[1:3]
        weights = mask.samples * tokens
        alone = queries_per_chunk(q.device, weights, mask.unit)
        if tokens <= alone:  # short sequences: all queries of some heads
            size, group = tokens, min(heads, alone // tokens)
        else:
            size, group = queries_per_chunk(q.device, heads * weights, 1), heads
            if size % mask.unit:  # as many weights, of more queries and fewer heads
                group = max(1, size * heads // mask.unit)
                size = mask.unit
        memory = q.new_empty(group * size * weights)
        out = v.new_empty(v.shape)
        for head in range(0, heads, group):
            some = slice(head, head + group)
            keys, values = (t[:, :, some].transpose(1, 2) for t in (k, v))
            for start in range(0, tokens, size):
                rows = slice(start, start + size)
                queries = q[:, rows, some].transpose(1, 2)
                added = buffer(memory, queries.shape[1], mask.samples, queries.shape[2], tokens)
                mask.write(added, start, some)
                chunk = attend(queries, keys, values, added.transpose(0, 1), scale)
                out[:, rows, some] = chunk.transpose(1, 2)
        ctx.save_for_backward(q, k, v, out, *places)
        ctx.scale, ctx.make_mask = scale, make_mask
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        with autocast_disabled(grad.device.type):
            q, k, v, out, *places = ctx.saved_tensors
            mask = ctx.make_mask(*places)
            grads = _gradients(q, k, v, out, grad, ctx.scale, mask)
            grads = tuple(g.to(t.dtype) for g, t in zip(grads, (q, k, v)))
            return *grads, None, None, *mask.gradients()


def _gradients(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor, scale: float, mask: Mask
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
    size = queries_per_chunk(q.device, batch * tokens, mask.unit)
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
            logits, weights = (buffer(m, *shape) for m in memory)
            mask.write(logits.unflatten(0, (-1, batch)), start, some)
            logits.baddbmm_(queries, keys.transpose(1, 2))
            torch.softmax(logits, -1, out=weights)
            sums[2].baddbmm_(weights.transpose(1, 2), grad_out)
            centre_rows = centres[:, rows].expand(shape)
            grad_logits = torch.baddbmm(centre_rows, grad_out, values.transpose(1, 2), out=logits)
            grad_logits.mul_(weights)
            sums[0][:, rows] = grad_logits @ keys
            sums[1].baddbmm_(grad_logits.transpose(1, 2), queries)
            mask.collect(grad_logits.unflatten(0, (-1, batch)), start, some)
    return tuple(g.permute(1, 2, 0, 3) for g in (grad_q.mul_(scale), grad_k, grad_v))
