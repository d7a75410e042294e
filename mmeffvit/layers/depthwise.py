"""Depth-wise convolutions: 3x3 around an identity, and 5x5 with a faster weight gradient on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmeffvit.ops.precision import autocast_enabled


class ResidualDepthwiseConv3x3(nn.Conv2d):
    """``x + conv(x)`` of a 3x3 depth-wise convolution, on (B, C, H, W) maps.

    The identity is added to the middle tap of the kernel, which saves a pass over the map in each
    direction. In low precision and under autocast the sum is spelt out: next to one, small weights
    would lose their digits.

    Args:
        dim: Channels C.
    """

    def __init__(self, dim: int):
        super().__init__(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        full_precision = self.weight.dtype in (torch.float32, torch.float64)
        # a compiler fuses the sum by itself
        if (
            not full_precision
            or autocast_enabled(x.device.type)
            or torch.compiler.is_compiling()
        ):
            return x + super().forward(x)
        identity = F.pad(self.weight.new_ones(1, 1, 1, 1), (1, 1, 1, 1))
        return self._conv_forward(x, self.weight + identity, self.bias)


class DepthwiseConv5x5(nn.Conv2d):
    """``nn.Conv2d(dim, dim, 5, padding=2, groups=dim)``, the same parameters and results.

    oneDNN has a fast weight gradient for depth-wise kernels of 3x3, and one about thirty times
    slower for 5x5. In float32 on a CPU the gradient is therefore put together from four 3x3 ones,
    whose taps cover the larger kernel. That path has first derivatives only.

    Args:
        dim: Channels C of the (B, C, H, W) map.
    """

    def __init__(self, dim: int):
        super().__init__(dim, dim, 5, padding=2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        special = (
            x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and torch.is_grad_enabled()
            and self.weight.requires_grad
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
        )
        return _Conv5x5.apply(x, self.weight, self.bias) if special else super().forward(x)


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
