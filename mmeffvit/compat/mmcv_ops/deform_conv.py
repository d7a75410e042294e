"""Deformable convolution v1 and v2: ``deform_conv_*`` and ``modulated_deform_conv_*`` of
``mmcv._ext``.

Dai et al., arXiv:1703.06211; Zhu et al., arXiv:1811.11168. torchvision's operator has the same
layout of offsets (row, column per kernel point) and masks. Results are written into the tensors
that the caller allocated; ``columns``, ``ones`` and ``im2col_step`` steer the compiled operator's
scratch memory.

B images, C and D channels, h groups of channels with own offsets (``deformable_group``), a kernel
of kH x kW points, an output of H' x W'. mmcv hands numbers over by name: kernel, stride, zero
padding on either side, dilation (each for rows and columns), and both numbers of groups.
"""

import torch
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch import Tensor

from mmeffvit.compat.mmcv_ops.dtypes import compute_dtype

#: torchvision's order of numbers, in the names of version 1 and of version 2
_ORDER_V1 = ("dH", "dW", "padH", "padW", "dilationH", "dilationW", "group", "deformable_group")
_ORDER_V2 = (
    *("stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w"),
    *("group", "deformable_group"),
)


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **numbers: int,
) -> None:
    """Version 1, without mask and bias.

    Args:
        input: (B, C, H, W).
        weight: (D, C / group, kH, kW).
        offset: (B, 2 h kH kW, H', W').
        output: (B, D, H', W').
        columns: Scratch.
        ones: Scratch.
        **numbers: ``kW``, ``kH``, those of `_ORDER_V1`, and ``im2col_step``.
    """
    geometry = [numbers[name] for name in _ORDER_V1]
    output.copy_(_forward(input, weight, offset, None, None, geometry))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **numbers: int,
) -> None:
    """Gradients of :func:`deform_conv_forward` for ``input`` and ``offset``."""
    geometry = [numbers[name] for name in _ORDER_V1]
    grads = _backward(gradOutput, input, weight, offset, None, None, geometry)
    gradInput.copy_(grads[0])
    gradOffset.copy_(grads[2])
    # torchvision computes all gradients at once; the scratch tensor hands the weight's to the call
    # for the parameters that follows in the same backward pass.
    columns.resize_(weight.shape).copy_(grads[1])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **numbers: int,
) -> None:
    """Gradient of :func:`deform_conv_forward` for ``weight``, times ``scale``."""
    if columns.shape == gradWeight.shape:
        gradWeight.copy_(columns * scale)
        columns.resize_(0)
        return
    geometry = [numbers[name] for name in _ORDER_V1]
    # The gradient for the weight does not depend on it.
    unused = torch.zeros_like(gradWeight)
    grads = _backward(gradOutput, input, unused, offset, None, None, geometry)
    gradWeight.copy_(grads[1] * scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **numbers: int,
) -> None:
    """Version 2: as :func:`deform_conv_forward`, with a factor per kernel point and a bias.

    Args:
        input: (B, C, H, W).
        weight: (D, C / group, kH, kW).
        bias: (D,), not read unless ``with_bias``.
        ones: Scratch.
        offset: (B, 2 h kH kW, H', W').
        mask: (B, h kH kW, H', W').
        output: (B, D, H', W').
        columns: Scratch.
        with_bias: Whether ``bias`` is added.
        **numbers: ``kernel_h``, ``kernel_w`` and those of `_ORDER_V2`.
    """
    geometry = [numbers[name] for name in _ORDER_V2]
    offset, mask = (_first_values(tensor, output.shape[2:]) for tensor in (offset, mask))
    output.copy_(_forward(input, weight, offset, mask, bias if with_bias else None, geometry))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **numbers: int,
) -> None:
    """All gradients of :func:`modulated_deform_conv_forward`."""
    geometry = [numbers[name] for name in _ORDER_V2]
    size = grad_output.shape[2:]
    offset, mask = (_first_values(tensor, size) for tensor in (offset, mask))
    grads = _backward(
        grad_output, input, weight, offset, mask, bias if with_bias else None, geometry
    )
    grad_input.copy_(grads[0])
    grad_weight.copy_(grads[1])
    _first_values(grad_offset, size).copy_(grads[2])
    _first_values(grad_mask, size).copy_(grads[3])
    if with_bias:
        grad_bias.copy_(grads[4])


def _first_values(tensor: Tensor, size: torch.Size) -> Tensor:
    """The part of (B, N, H, W) offsets or masks that an output of ``size`` reads, (B, N, *size).

    mmcv's kernel does not look at H and W: it walks through the numbers of an image as if they had
    the output's size. DyHead relies on that when it takes offsets to a level of half the size.

    Raises:
        ValueError: There are fewer numbers than the output needs.
    """
    if tensor.shape[2:] == size:
        return tensor
    if tensor.shape[2:].numel() < size.numel():
        raise ValueError(
            f"offsets and masks of {tuple(tensor.shape[2:])} are too small for an output of "
            f"{tuple(size)}; compute them at the output's size"
        )
    count = tensor.size(1) * size.numel()
    return tensor.flatten(1)[:, :count].unflatten(1, (tensor.size(1), *size))


def _operands(
    input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None
) -> tuple[list[Tensor], bool]:
    """The operands in one type, absent ones filled in for torchvision; whether there is a mask."""
    dtype = compute_dtype(input, weight, offset)
    with_mask = mask is not None
    if mask is None:
        mask = input.new_zeros(input.size(0), 1)
    if bias is None:
        bias = input.new_zeros(weight.size(0))
    return [tensor.to(dtype) for tensor in (input, weight, offset, mask, bias)], with_mask


def _forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    geometry: list[int],
) -> Tensor:
    operands, with_mask = _operands(input, weight, offset, mask, bias)
    return torch.ops.torchvision.deform_conv2d(*operands, *geometry, with_mask)


def _backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    geometry: list[int],
) -> tuple[Tensor, ...]:
    """Gradients for input, weight, offset, mask and bias."""
    operands, with_mask = _operands(input, weight, offset, mask, bias)
    grad_output = grad_output.to(operands[0].dtype)
    return torch.ops.torchvision._deform_conv2d_backward(
        grad_output, *operands, *geometry, with_mask
    )
