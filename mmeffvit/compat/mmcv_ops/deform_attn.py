"""Multi-scale deformable attention: ``ms_deform_attn_*`` of ``mmcv._ext``.

The formula is `mmeffvit.ops.deformable_attention`.
B batch, S value tokens of all levels, Q queries, h heads, d head dim, V levels, P points.
"""

import torch
from torch import Tensor

from mmeffvit.ops import deformable_attention


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
        value_level_start_index: First token of every level, (V,); they follow from the shapes.
        sampling_locations: x, y of every sample in units of its level's size, (B, Q, h, V, P, 2).
        attention_weights: (B, Q, h, V, P).
        im2col_step: Images per step of the compiled operator; not used.

    Returns:
        (B, Q, h d).
    """
    shapes = value_spatial_shapes.tolist()
    out = deformable_attention(
        value, shapes, sampling_locations, attention_weights, implementation="fused"
    )
    return out.flatten(2)


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
    value, locations, weights = inputs = [
        tensor.detach().requires_grad_()
        for tensor in (value, sampling_locations, attention_weights)
    ]
    with torch.enable_grad():
        output = ms_deform_attn_forward(
            value, value_spatial_shapes, value_level_start_index, locations, weights, im2col_step
        )
    grads = torch.autograd.grad(output, inputs, grad_output)
    for target, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads):
        target.copy_(grad)
