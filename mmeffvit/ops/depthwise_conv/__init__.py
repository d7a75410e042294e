"""Depth-wise convolution of the size of its input, alone or around an identity."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.depthwise_conv.fused import depthwise_conv2d_fused
from mmeffvit.ops.depthwise_conv.reference import depthwise_conv2d_reference

__all__ = ["depthwise_conv2d"]

dispatch.register("depthwise_conv2d", "fused", depthwise_conv2d_fused)
dispatch.register("depthwise_conv2d", "reference", depthwise_conv2d_reference)


def depthwise_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    residual: bool = False,
    implementation: str | None = None,
) -> Tensor:
    """``conv(x)``, or ``x + conv(x)``, with a kernel per channel and zeros around the map.

    Args:
        x: (B, C, H, W) map.
        weight: (C, 1, k, k) kernels, k odd.
        bias: (C,).
        residual: Add the map itself.
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`. In float32 on a
            CPU the fused one has first derivatives only for kernels of 5x5.

    Returns:
        (B, C, H, W).

    Raises:
        ValueError: The kernels are not (C, 1, k, k) with an odd k and the channels of the map.
    """
    size = weight.shape[-1]
    if tuple(weight.shape) != (x.shape[1], 1, size, size) or size % 2 == 0:
        raise ValueError(
            f"depthwise_conv2d needs kernels of shape (C, 1, k, k) with an odd k for a map of "
            f"C = {x.shape[1]} channels, got {tuple(weight.shape)}"
        )
    return dispatch.run("depthwise_conv2d", implementation, x, weight, bias, residual=residual)
