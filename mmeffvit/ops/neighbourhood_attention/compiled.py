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
    size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    scale: float,
) -> Tensor:
    """(B*h, L, d) queries, keys and values of a map of H x W to the same."""
    check_windows(size, kernel, dilation)
    with autocast_disabled(q.device.type):
        return fused.forward(q, k, v, tuple(size), tuple(kernel), tuple(dilation), scale)


@torch.library.custom_op(f"{fused.COMPILED_OP}_backward", mutates_args=())
def _attend_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    geometry = tuple(size), tuple(kernel), tuple(dilation), scale
    with autocast_disabled(q.device.type):
        return fused.backward(grad.contiguous(), q, k, v, out, *geometry)


@_attend.register_fake
def _(q, k, v, size, kernel, dilation, scale):
    return torch.empty_like(v)


@_attend_backward.register_fake
def _(grad, q, k, v, out, size, kernel, dilation, scale):
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _keep(ctx, inputs, output) -> None:
    q, k, v, *ctx.geometry = inputs
    ctx.save_for_backward(q, k, v, output)


def _gradients(ctx, grad: Tensor):
    return *_attend_backward(grad, *ctx.saved_tensors, *ctx.geometry), None, None, None, None


_attend.register_autograd(_gradients, setup_context=_keep)
