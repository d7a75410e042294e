"""Neighbourhood attention as one node of a compiled graph, whatever the size of the map.

Tiles are lists that depend on the size: traced, they would bind a graph to one size and make it
thousands of nodes long. As an operator of PyTorch they stay outside of the graph.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mmeffvit.ops.neighbourhood_attention import fused
from mmeffvit.ops.neighbourhood_attention.tiles import check_windows
from mmeffvit.ops.precision import autocast_disabled, full_dtype
from mmeffvit.ops.tracing import is_exporting

_KEPT = contextvars.ContextVar("mmeffvit.neighbourhood_attention kept as a node", default=False)


@contextlib.contextmanager
def kept_as_node() -> Iterator[None]:
    """Programs that are exported within have the operator as one node, for whoever translates it.

    Such a program runs where this package is imported.
    """
    token = _KEPT.set(True)
    try:
        yield
    finally:
        _KEPT.reset(token)


def refuses(*args, **kwargs) -> str | None:
    """Why the tiles cannot be used while a graph is exported, or None."""
    if is_exporting() and not _KEPT.get():
        return "an exported graph has plain PyTorch operators only, for maps of any size"
    return None


@torch.library.custom_op(fused.COMPILED_OP, mutates_args=())
def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    kernel: Sequence[int],
    dilation: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor]:
    """(B, H, W, h, d) each, and what the backward pass keeps beside it, maybe nothing."""
    check_windows(q.shape[1:3], k.shape[1:3], kernel, dilation)
    with autocast_disabled(q.device.type):
        out, normaliser = fused.forward(
            q, k, v, bias, tuple(kernel), tuple(dilation), scale, keep=True
        )
    # an operator of PyTorch has no optional results
    normaliser = out.new_empty(0) if normaliser is None else normaliser.contiguous()
    return out.contiguous(), normaliser


@torch.library.custom_op(f"{fused.COMPILED_OP}_backward", mutates_args=())
def _attend_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    out: Tensor,
    normaliser: Tensor,
    kernel: Sequence[int],
    dilation: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    kept = normaliser if normaliser.numel() else None
    with autocast_disabled(q.device.type):
        *grads, grad_bias = fused.backward(
            grad, q, k, v, bias, out, kept, tuple(kernel), tuple(dilation), scale
        )
    grad_bias = q.new_empty(0) if grad_bias is None else grad_bias
    return *(t.contiguous() for t in grads), grad_bias


@_attend.register_fake
def _(q, k, v, bias, *options):
    keeps = fused.keeps_normaliser(q.device.type, bias)
    shape = (*q.shape[:4], 1) if keeps else (0,)
    dtype = full_dtype(q.dtype) if keeps else q.dtype
    return q.new_empty(q.shape), q.new_empty(shape, dtype=dtype)


@_attend_backward.register_fake
def _(grad, q, k, v, bias, *options):
    grad_bias = q.new_empty(0) if bias is None else torch.empty_like(bias)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), grad_bias


def _keep(ctx, inputs, output) -> None:
    q, k, v, bias, *ctx.options = inputs
    ctx.save_for_backward(q, k, v, bias, *output)


def _gradients(ctx, grad: Tensor, _):
    *grads, grad_bias = _attend_backward(grad, *ctx.saved_tensors, *ctx.options)
    if not ctx.needs_input_grad[3]:
        grad_bias = None
    return *grads, grad_bias, *(None for _ in ctx.options)


_attend.register_autograd(_gradients, setup_context=_keep)
