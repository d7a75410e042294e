"""Multi-scale deformable attention: ``ms_deform_attn_*`` of ``mmcv._ext``.

Zhu et al., Deformable DETR, arXiv:2010.04159, section 4.1, equation 3.
B batch, S value tokens of all levels, Q queries, h heads, d head dim, V levels, P points.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.compat.mmcv_ops.dtypes import compute_dtype


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Weighted sum of bilinear samples of ``value``.

    Args:
        value: (B, S, h, d).
        value_spatial_shapes: Rows and columns of every level, (V, 2).
        value_level_start_index: First token of every level, (V,).
        sampling_locations: x, y of every sample in units of its level's size, (B, Q, h, V, P, 2).
        attention_weights: (B, Q, h, V, P).
        im2col_step: Images per step of the compiled operator; not used.

    Returns:
        (B, Q, h d).
    """
    dtype = compute_dtype(value)
    output = _attend(
        value.to(dtype),
        value_spatial_shapes.tolist(),
        value_level_start_index.tolist(),
        sampling_locations.to(dtype),
        attention_weights.to(dtype),
    )
    return output.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Gradients of :func:`ms_deform_attn_forward`, written into the three ``grad_*`` that follow
    ``grad_output``.
    """
    dtype = compute_dtype(value)
    inputs = [
        tensor.detach().to(dtype).requires_grad_()
        for tensor in (value, sampling_locations, attention_weights)
    ]
    shapes, starts = value_spatial_shapes.tolist(), value_level_start_index.tolist()
    with torch.enable_grad():
        output = _attend(inputs[0], shapes, starts, inputs[1], inputs[2])
    grads = torch.autograd.grad(output, inputs, grad_output.to(dtype))
    for target, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads):
        target.copy_(grad)


def _attend(
    value: Tensor,
    shapes: list[list[int]],
    starts: list[int],
    locations: Tensor,
    weights: Tensor,
) -> Tensor:
    """The formula, level by level, so that the samples of one level only are in memory at once."""
    batch, _, heads, dim = value.shape
    queries = locations.size(1)
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # (B h, Q, V, P, 2) in [-1, 1]
    weights = weights.transpose(1, 2).flatten(0, 1)  # (B h, Q, V, P)
    output = value.new_zeros(batch * heads, dim, queries)
    for level, ((height, width), start) in enumerate(zip(shapes, starts)):
        tokens = value[:, start : start + height * width]  # (B, H W, h, d)
        plane = tokens.permute(0, 2, 3, 1).reshape(batch * heads, dim, height, width)
        samples = F.grid_sample(plane, grids[:, :, level], align_corners=False)  # (B h, d, Q, P)
        output = output + (samples * weights[:, None, :, level]).sum(-1)
    return output.view(batch, heads * dim, queries).transpose(1, 2).contiguous()
