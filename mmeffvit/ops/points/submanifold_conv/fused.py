"""Chunks of rows in place of (N, 27, C) tensors; derived in the README beside `ops/points`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops.precision import autocast_enabled, full_dtype

#: numbers that the neighbours of one chunk of rows may have together: 4 MB stay in a core's cache
_CHUNK_NUMBERS = 2**20


def _with_zero_row(x: Tensor) -> Tensor:
    return torch.cat((x, x.new_zeros(1, x.shape[1])))


def _chunks(neighbours: Tensor, channels: int, x: Tensor):
    rows = max(1, _CHUNK_NUMBERS // (27 * channels)) if x.device.type == "cpu" else 2**16
    return zip(neighbours.split(rows), range(0, len(neighbours), rows))


def _convolve(x: Tensor, weight: Tensor, neighbours: Tensor) -> Tensor:
    matrix = weight.flatten(1).t()  # (27 C_in, C_out)
    padded = _with_zero_row(x)
    out = x.new_empty(len(x), weight.shape[0])
    for part, start in _chunks(neighbours, x.shape[1], x):
        rows = padded.index_select(0, part.flatten()).view(len(part), -1)
        torch.mm(rows, matrix, out=out[start : start + len(part)])
    return out


def _weight_gradient(x: Tensor, grad: Tensor, weight: Tensor, neighbours: Tensor) -> Tensor:
    padded = _with_zero_row(x)
    # sums over all voxels: in full precision, whatever the products are in
    total = torch.zeros_like(weight.flatten(1), dtype=full_dtype(weight.dtype))
    for part, start in _chunks(neighbours, x.shape[1], x):
        rows = padded.index_select(0, part.flatten()).view(len(part), -1)
        total += grad[start : start + len(part)].t() @ rows
    return total.view_as(weight).to(weight.dtype)


def _convolve_depthwise(x: Tensor, weight: Tensor, neighbours: Tensor) -> Tensor:
    kernels = weight.flatten(1).t().contiguous()  # (27, C)
    padded = _with_zero_row(x)
    out = torch.zeros_like(x)
    for part, start in _chunks(neighbours, x.shape[1], x):
        sums = out[start : start + len(part)]
        for column, kernel in zip(part.unbind(1), kernels):
            sums.addcmul_(padded.index_select(0, column), kernel)
    return out


def _weight_gradient_depthwise(
    x: Tensor, grad: Tensor, weight: Tensor, neighbours: Tensor
) -> Tensor:
    padded = _with_zero_row(x)
    total = weight.new_zeros(27, x.shape[1])
    for part, start in _chunks(neighbours, x.shape[1], x):
        own = grad[start : start + len(part)]
        for column, sums in zip(part.unbind(1), total):
            sums += (padded.index_select(0, column) * own).sum(0)
    return total.t().reshape(weight.shape)


class _SubmanifoldConv(torch.autograd.Function):
    """Keeps x and the weight for the backward pass, not the gathered neighbours."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, neighbours: Tensor, depthwise: bool) -> Tensor:
        ctx.save_for_backward(x, weight, neighbours)
        ctx.depthwise = depthwise
        return (_convolve_depthwise if depthwise else _convolve)(x, weight, neighbours)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, weight, neighbours = ctx.saved_tensors
        grad, grad_x, grad_weight = grad.contiguous(), None, None
        if ctx.needs_input_grad[0]:
            # neighbours are mutual: the gradient is a convolution too, without a scatter
            mirrored = weight.flip(1, 2, 3)
            if ctx.depthwise:
                grad_x = _convolve_depthwise(grad, mirrored, neighbours)
            else:
                grad_x = _convolve(grad, mirrored.transpose(0, 4), neighbours)
        if ctx.needs_input_grad[1]:
            gradient = _weight_gradient_depthwise if ctx.depthwise else _weight_gradient
            grad_weight = gradient(x, grad, weight, neighbours)
        return grad_x, grad_weight, None, None


def submanifold_conv3d_fused(x: Tensor, weight: Tensor, neighbours: Tensor) -> Tensor:
    """See :func:`mmeffvit.ops.points.submanifold_conv3d`."""
    dtype = x.dtype
    # autocast does not reach into an autograd function: its type is applied here
    if autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
    return _SubmanifoldConv.apply(x.to(dtype), weight.to(dtype), neighbours, False)


def depthwise_submanifold_conv3d_fused(x: Tensor, weight: Tensor, neighbours: Tensor) -> Tensor:
    """See :func:`mmeffvit.ops.points.depthwise_submanifold_conv3d`."""
    # 27 additions one by one: nothing is won in half precision, and digits are lost
    dtype = full_dtype(x.dtype)
    out = _SubmanifoldConv.apply(x.to(dtype), weight.to(dtype), neighbours, True)
    return out.to(x.dtype)
