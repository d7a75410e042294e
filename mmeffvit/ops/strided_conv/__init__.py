"""Convolution whose kernel is several times as large as its stride."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.strided_conv.fused import strided_conv2d_fused
from mmeffvit.ops.strided_conv.reference import strided_conv2d_reference

__all__ = ["strided_conv2d"]

dispatch.register("strided_conv2d", "fused", strided_conv2d_fused)
dispatch.register("strided_conv2d", "reference", strided_conv2d_reference)


def strided_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: int,
    padding: int,
    *,
    implementation: str | None = None,
) -> Tensor:
    """A convolution with square kernels and zeros around the map.

    Args:
        x: (B, C, H, W) map.
        weight: (C', C, k, k) kernels.
        bias: (C',).
        stride: Of rows and of columns.
        padding: Zeros on each side.
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`. They differ in
            training on a CPU, for kernels of four strides and more.

    Returns:
        (B, C', (H + 2 padding - k) // stride + 1, the same of W).
    """
    return dispatch.run("strided_conv2d", implementation, x, weight, bias, stride, padding)
