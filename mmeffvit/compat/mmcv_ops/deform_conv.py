"""Deformable convolution v1 and v2: ``deform_conv_*`` and ``modulated_deform_conv_*`` of
``mmcv._ext``.

Dai et al., arXiv:1703.06211; Zhu et al., arXiv:1811.11168. torchvision's operator has the same
layout of offsets (row, column per kernel point) and masks. Results are written into the tensors
that the caller allocated; ``columns``, ``ones`` and ``im2col_step`` steer the compiled operator's
scratch memory.
"""

import torch
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch import Tensor

from mmeffvit.compat.mmcv_ops.dtypes import compute_dtype


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Version 1, without mask and bias.

    Args:
        input: (B, C, H, W).
        weight: (D, C / group, kH, kW).
        offset: (B, 2 deformable_group kH kW, H', W').
        output: (B, D, H', W').
        columns: Scratch.
        ones: Scratch.
        kW: Columns of the kernel.
        kH: Rows of the kernel.
        dW: Stride along a row.
        dH: Stride along a column.
        padW: Zero columns on either side.
        padH: Zero rows on either side.
        dilationW: Distance of kernel points along a row.
        dilationH: Distance of kernel points along a column.
        group: Groups of channels that are convolved apart.
        deformable_group: Groups of channels that have their own offsets.
        im2col_step: Images per step of the compiled operator.
    """
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    output.copy_(_forward(input, weight, offset, None, None, geometry))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Gradients of :func:`deform_conv_forward` for ``input`` and ``offset``."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
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
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Gradient of :func:`deform_conv_forward` for ``weight``, times ``scale``."""
    if columns.shape == gradWeight.shape:
        gradWeight.copy_(columns * scale)
        columns.resize_(0)
        return
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
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
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Version 2: as :func:`deform_conv_forward`, with a factor per kernel point and a bias.

    Args:
        input: (B, C, H, W).
        weight: (D, C / group, kernel_h, kernel_w).
        bias: (D,), not read unless ``with_bias``.
        ones: Scratch.
        offset: (B, 2 deformable_group kernel_h kernel_w, H', W').
        mask: (B, deformable_group kernel_h kernel_w, H', W').
        output: (B, D, H', W').
        columns: Scratch.
        kernel_h: Rows of the kernel.
        kernel_w: Columns of the kernel.
        stride_h: Stride along a column.
        stride_w: Stride along a row.
        pad_h: Zero rows on either side.
        pad_w: Zero columns on either side.
        dilation_h: Distance of kernel points along a column.
        dilation_w: Distance of kernel points along a row.
        group: Groups of channels that are convolved apart.
        deformable_group: Groups of channels that have their own offsets and masks.
        with_bias: Whether ``bias`` is added.
    """
    geometry = (
        stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group
    )  # fmt: skip
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
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """All gradients of :func:`modulated_deform_conv_forward`."""
    geometry = (
        stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group
    )  # fmt: skip
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
    geometry: tuple[int, ...],
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
    geometry: tuple[int, ...],
) -> tuple[Tensor, ...]:
    """Gradients for input, weight, offset, mask and bias."""
    operands, with_mask = _operands(input, weight, offset, mask, bias)
    grad_output = grad_output.to(operands[0].dtype)
    return torch.ops.torchvision._deform_conv2d_backward(
        grad_output, *operands, *geometry, with_mask
    )
