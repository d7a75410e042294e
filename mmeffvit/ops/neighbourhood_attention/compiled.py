"""Neighbourhood attention as one node of a compiled graph, whatever the size of the map.

Tiles are lists that depend on the size: traced, they would bind a graph to one size and make it
thousands of nodes long. As an operator of PyTorch they stay outside of the graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmeffvit.ops.neighbourhood_attention import fused
from mmeffvit.ops.neighbourhood_attention.tiles import check_windows
from mmeffvit.ops.precision import autocast_disabled


def refuses(*args, **kwargs) -> str | None:
    """Why the tiles cannot be used while a graph is exported, or None."""
    if torch.compiler.is_exporting():
        return "an exported graph has plain PyTorch operators only, for maps of any size"
    return None


@torch.library.custom_op(fused.COMPILED_OP, mutates_args=())
def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    size: Sequence[int],
    key_size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    scale: float,
) -> Tensor:
    """(B*h, L, d) queries, and keys and values, of maps of H x W to the same of the queries."""
    check_windows(size, key_size, kernel, dilation)
    windows = (tuple(t) for t in (size, key_size, kernel, dilation))
    with autocast_disabled(q.device.type):
        return fused.forward(q, k, v, bias, *windows, scale)


@torch.library.custom_op(f"{fused.COMPILED_OP}_backward", mutates_args=())
def _attend_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    out: Tensor,
    size: Sequence[int],
    key_size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    windows = (tuple(t) for t in (size, key_size, kernel, dilation))
    with autocast_disabled(q.device.type):
        *grads, grad_bias = fused.backward(grad.contiguous(), q, k, v, bias, out, *windows, scale)
    # an operator of PyTorch has no optional results
    return *grads, q.new_empty(0) if grad_bias is None else grad_bias


@_attend.register_fake
def _(q, k, v, bias, *geometry):
    return torch.empty_like(q)


@_attend_backward.register_fake
def _(grad, q, k, v, bias, out, *geometry):
    grad_bias = q.new_empty(0) if bias is None else torch.empty_like(bias)
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), grad_bias


def _keep(ctx, inputs, output) -> None:
    q, k, v, bias, *ctx.geometry = inputs
    ctx.save_for_backward(q, k, v, bias, output)


def _gradients(ctx, grad: Tensor):
    *grads, grad_bias = _attend_backward(grad, *ctx.saved_tensors, *ctx.geometry)
    if not ctx.needs_input_grad[3]:
        grad_bias = None
    return *grads, grad_bias, *(None for _ in ctx.geometry)


_attend.register_autograd(_gradients, setup_context=_keep)
