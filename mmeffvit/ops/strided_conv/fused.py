"""The stride folded into the channels, where the weights learn faster so; see README.md."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.strided_conv.reference import strided_conv2d_reference


def strided_conv2d_fused(
    x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int
) -> Tensor:
    """See :func:`mmeffvit.ops.strided_conv2d`."""
    if not _has_slow_gradient(x, weight, stride):
        return strided_conv2d_reference(x, weight, bias, stride, padding)
    kernel = weight.shape[-1]
    # as far as the last kernel reaches, which is a multiple of the stride
    reach = [(side + 2 * padding - kernel) // stride * stride + kernel for side in x.shape[-2:]]
    below, right = (whole - side - padding for whole, side in zip(reach, x.shape[-2:]))
    x = F.pixel_unshuffle(F.pad(x, (padding, right, padding, below)), stride)
    x = x.contiguous(memory_format=torch.channels_last)
    return F.conv2d(x, F.pixel_unshuffle(weight, stride), bias)


def _has_slow_gradient(x: Tensor, weight: Tensor, stride: int) -> bool:
    kernel = weight.shape[-1]
    return (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and torch.is_grad_enabled()
        and weight.requires_grad
        and stride > 1
        and kernel % stride == 0
        and kernel >= 4 * stride
    )
