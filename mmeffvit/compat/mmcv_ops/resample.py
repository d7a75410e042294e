"""Content-aware up-sampling and convolution at chosen cells: ``carafe_*`` and ``masked_*`` of
``mmcv._ext``.

Results are written into the tensors that the caller allocated.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.compat.mmcv_ops.dtypes import compute_dtype


def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Up-sample with a kernel of its own for every output cell.

    Wang et al., CARAFE, arXiv:1905.02188, equation 2.

    Args:
        features: (B, C, H, W).
        masks: Kernels, (B, group_size kernel_size², H scale_factor, W scale_factor).
        output: (B, C, H scale_factor, W scale_factor).
        kernel_size: Side of a kernel, odd.
        group_size: Groups of channels that have their own kernels.
        scale_factor: Output cells per side of an input cell.
    """
    dtype = compute_dtype(features, masks)
    padded, kernels = _carafe_operands(features, masks, kernel_size, group_size, scale_factor)
    height, width = features.shape[2:]
    total = output.new_zeros(1, dtype=dtype)
    for index in range(kernel_size**2):
        row, column = divmod(index, kernel_size)
        window = padded[..., row : row + height, column : column + width]  # (B, g, C/g, H, W)
        total = total + window[:, :, :, :, None, :, None] * kernels[:, :, None, index]
    output.copy_(total.reshape(output.shape))


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Gradients of :func:`carafe_naive_forward` for ``features`` and ``masks``."""
    dtype = compute_dtype(features, masks)
    padded, kernels = _carafe_operands(features, masks, kernel_size, group_size, scale_factor)
    batch, channels, height, width = features.shape
    grad = grad_output.to(dtype).reshape(
        batch, group_size, -1, height, scale_factor, width, scale_factor
    )
    grad_padded, grad_kernels = torch.zeros_like(padded), torch.zeros_like(kernels)
    for index in range(kernel_size**2):
        row, column = divmod(index, kernel_size)
        place = (..., slice(row, row + height), slice(column, column + width))
        grad_padded[place] += (grad * kernels[:, :, None, index]).sum((4, 6))
        grad_kernels[:, :, index] = (grad * padded[place][:, :, :, :, None, :, None]).sum(2)
    margin = kernel_size // 2
    inner = grad_padded[..., margin : margin + height, margin : margin + width]
    grad_input.copy_(inner.reshape(batch, channels, height, width))
    grad_masks.copy_(grad_kernels.reshape(grad_masks.shape))


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """As :func:`carafe_naive_forward`; ``rfeatures`` keeps the features for the backward pass."""
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Gradients of :func:`carafe_forward`; ``rgrad_*`` are the compiled operator's scratch."""
    carafe_naive_backward(
        grad_output, rfeatures, masks, grad_input, grad_masks, kernel_size, group_size, scale_factor
    )


def _carafe_operands(
    features: Tensor, masks: Tensor, kernel_size: int, groups: int, scale: int
) -> tuple[Tensor, Tensor]:
    """Padded features (B, g, C/g, H + k - 1, W + k - 1) and kernels (B, g, k², H, s, W, s)."""
    dtype = compute_dtype(features, masks)
    batch, channels, height, width = features.shape
    padded = F.pad(features.to(dtype), [kernel_size // 2] * 4)
    padded = padded.unflatten(1, (groups, channels // groups))
    kernels = masks.to(dtype).reshape(batch, groups, -1, height, scale, width, scale)
    return padded, kernels


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Copy the window around each of M cells of ``im`` (1, C, H, W) to ``col``.

    ``col`` is (C kernel_h kernel_w, M).
    """
    padded = F.pad(im[0], (pad_w, pad_w, pad_h, pad_h))
    rows = mask_h_idx + torch.arange(kernel_h, device=im.device)[:, None]  # (kernel_h, M)
    columns = mask_w_idx + torch.arange(kernel_w, device=im.device)[:, None]  # (kernel_w, M)
    col.copy_(padded[:, rows[:, None], columns].reshape(col.shape))


def masked_col2im_forward(
    col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    im: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Write ``col`` (C, M) to the M cells of ``im`` (1, C, height, width)."""
    im[0, :, mask_h_idx, mask_w_idx] = col
