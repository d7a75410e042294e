"""The identity inside the kernel, and a faster weight gradient of 5x5; see README.md."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops.depthwise_conv.reference import depthwise_conv2d_reference
from mmeffvit.ops.precision import autocast_enabled


def depthwise_conv2d_fused(
    x: Tensor, weight: Tensor, bias: Tensor, *, residual: bool = False
) -> Tensor:
    """See :func:`mmeffvit.ops.depthwise_conv2d`."""
    # a compiler fuses by itself; in low precision small weights would drown in the identity's one
    full_precision = x.dtype == weight.dtype and x.dtype in (torch.float32, torch.float64)
    if not full_precision or autocast_enabled(x.device.type) or torch.compiler.is_compiling():
        return depthwise_conv2d_reference(x, weight, bias, residual=residual)
    if residual:
        middle = weight.shape[-1] // 2
        weight = weight + F.pad(weight.new_ones(1, 1, 1, 1), (middle,) * 4)
    if _has_slow_gradient(x, weight):
        return _Conv5x5.apply(x, weight, bias)
    return depthwise_conv2d_reference(x, weight, bias)


def _has_slow_gradient(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and weight.shape[-1] == 5
        and torch.is_grad_enabled()
        and weight.requires_grad
    )


class _Conv5x5(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=2, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        grad_x = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = _convolution_backward(grad, x, weight, 2, of_input=True)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 2, 3))
        return grad_x, _weight_gradient(grad, x, weight), grad_bias


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    padded = F.pad(x, (2, 2, 2, 2))
    result = torch.empty_like(weight)
    for top in (0, 2):
        for left in (0, 2):
            part = padded[:, :, top : top + height + 2, left : left + width + 2]
            taps = weight[:, :, top : top + 3, left : left + 3].contiguous()
            # the middle row and column of taps are made twice, and are the same
            result[:, :, top : top + 3, left : left + 3] = _convolution_backward(
                grad, part.contiguous(memory_format=torch.channels_last), taps, 0, of_input=False
            )
    return result


def _convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, padding: int, of_input: bool
) -> Tensor:
    """Gradient of a depth-wise convolution by its input or by its weight."""
    grads = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [1, 1], [padding] * 2, [1, 1], False, [0, 0], len(weight),
        [of_input, not of_input, False],
    )  # fmt: skip
    return grads[0 if of_input else 1]
