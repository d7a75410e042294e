"""Deformable convolution and attention beyond the golden file: gradients in float64, types."""

import pytest
import torch
import torch.nn.functional as F
from mmcv import ops
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)
from torch.autograd import gradcheck


def conv_inputs(device, dtype=torch.float64):
    """Input, offset, mask, weight and bias with two groups of each kind."""
    shapes = [(2, 4, 5, 4), (2, 36, 5, 4), (2, 18, 5, 4), (4, 2, 3, 3), (4,)]
    return [torch.randn(shape, device=device).to(dtype).requires_grad_() for shape in shapes]


GEOMETRY = (1, 1, 1, 2, 2)  # stride, padding, dilation, groups, groups of offsets


def test_without_offset_it_is_a_convolution(device):
    x, offset, mask, weight, bias = conv_inputs(device)
    plain = F.conv2d(x, weight, None, 1, 1, 1, 2)
    still = torch.zeros_like(offset)
    torch.testing.assert_close(ops.deform_conv2d(x, still, weight, *GEOMETRY), plain)
    out = ops.modulated_deform_conv2d(x, still, torch.ones_like(mask), weight, bias, *GEOMETRY)
    torch.testing.assert_close(out, plain + bias[:, None, None])


def test_an_offset_moves_the_sample(device):
    """A 1 x 1 kernel that looks one row down and one column right."""
    x = torch.randn(1, 1, 4, 5, device=device)
    offset = torch.ones(1, 2, 4, 5, device=device)
    offset[:, 1] = 1.0
    out = ops.deform_conv2d(x, offset, torch.ones(1, 1, 1, 1, device=device))
    torch.testing.assert_close(out, F.pad(x, (0, 1, 0, 1))[..., 1:, 1:])
    offset[:, 1] = 0.0  # first channel: rows
    out = ops.deform_conv2d(x, offset, torch.ones(1, 1, 1, 1, device=device))
    torch.testing.assert_close(out, F.pad(x, (0, 0, 0, 1))[..., 1:, :])


def test_deform_conv_gradients(device):
    x, offset, mask, weight, bias = conv_inputs(device)
    gradcheck(lambda *a: ops.deform_conv2d(*a, *GEOMETRY), (x, offset, weight), fast_mode=True)
    gradcheck(
        lambda *a: ops.modulated_deform_conv2d(*a, *GEOMETRY),
        (x, offset, mask, weight, bias),
        fast_mode=True,
    )


def test_weight_gradient_alone_and_twice(device):
    """The scratch memory that hands gradients over does not outlive a pass, and is not needed."""
    x, offset, _, weight, _ = conv_inputs(device)
    out = ops.deform_conv2d(x, offset, weight, *GEOMETRY)
    inputs = (x, offset, weight)
    grads = [
        torch.autograd.grad(out, inputs, torch.full_like(out, scale), retain_graph=True)
        for scale in (1.0, 2.0)
    ]
    for one, two in zip(*grads):
        torch.testing.assert_close(2 * one, two)
    (after,) = torch.autograd.grad(out, weight, torch.full_like(out, 3.0), retain_graph=True)
    torch.testing.assert_close(after, 3 * grads[0][2])
    alone = ops.deform_conv2d(x.detach(), offset.detach(), weight, *GEOMETRY)
    torch.testing.assert_close(torch.autograd.grad(alone.sum(), weight)[0], grads[0][2])


def test_offsets_of_a_larger_map(device):
    """mmcv walks through the numbers as if they had the output's size; DyHead relies on it."""
    x, _, _, weight, bias = conv_inputs(device)  # output 5 x 4
    offset = torch.randn(2, 36, 7, 6, dtype=x.dtype, device=device, requires_grad=True)
    mask = torch.rand(2, 18, 7, 6, dtype=x.dtype, device=device, requires_grad=True)
    tensors = (x, offset, mask, weight, bias)
    out = ops.modulated_deform_conv2d(*tensors, *GEOMETRY)
    read = [
        torch.stack([image.reshape(-1)[: n * 20].reshape(n, 5, 4) for image in tensor])
        for tensor, n in ((offset, 36), (mask, 18))
    ]
    expected = ops.modulated_deform_conv2d(x, *read, weight, bias, *GEOMETRY)
    torch.testing.assert_close(out, expected)
    for one, other in zip(
        torch.autograd.grad(out.square().sum(), tensors),
        torch.autograd.grad(expected.square().sum(), tensors),
    ):
        torch.testing.assert_close(one, other)


def test_offsets_of_a_smaller_map(device):
    x, offset, mask, weight, bias = conv_inputs(device)
    with pytest.raises(ValueError, match=r"\(4, 4\) are too small for an output of \(5, 4\)"):
        ops.modulated_deform_conv2d(x, offset[:, :, :4], mask, weight, bias, *GEOMETRY)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_deform_conv_in_half_types(device, dtype):
    half = conv_inputs(device, dtype)
    full = [tensor.detach().float().requires_grad_() for tensor in half]
    out, expected = (ops.modulated_deform_conv2d(*args, *GEOMETRY) for args in (half, full))
    out.float().sum().backward()
    expected.sum().backward()
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected.to(dtype), rtol=0, atol=0)
    for one, other in zip(half, full):
        torch.testing.assert_close(one.grad, other.grad.to(dtype), rtol=0, atol=0)


def test_mixed_types_as_under_autocast(device):
    """mmcv casts to the type of the offset, which a convolution under autocast computed."""
    layer = ops.ModulatedDeformConv2dPack(4, 6, 3, padding=1, bias=True).to(device)
    x = torch.randn(2, 4, 6, 7, device=device, requires_grad=True)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        out = layer(x)
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert x.grad.dtype == torch.float32
    torch.testing.assert_close(out.float(), layer(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("layer", [ops.DeformConv2dPack, ops.ModulatedDeformConv2dPack])
def test_packs_train(layer, device):
    module = layer(4, 6, 3, stride=2, padding=1, deform_groups=2).to(device)
    x = torch.randn(2, 4, 9, 8, device=device, requires_grad=True)
    out = module(x)
    out.square().sum().backward()
    assert out.shape == (2, 6, 5, 4)
    for name, parameter in module.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def attention_inputs(device, dtype=torch.float64):
    shapes = torch.tensor([[3, 4], [2, 2]], device=device)
    starts = torch.tensor([0, 12], device=device)
    value = torch.randn(2, 16, 2, 3, device=device)
    locations = torch.rand(2, 5, 2, 2, 3, 2, device=device) * 1.4 - 0.2  # some outside
    weights = torch.rand(2, 5, 2, 2, 3, device=device)
    tensors = [t.to(dtype).requires_grad_() for t in (value, locations, weights)]
    return shapes, starts, *tensors


def test_attention_is_mmcvs_formula(device):
    shapes, starts, value, locations, weights = attention_inputs(device)
    tensors = (value, locations, weights)
    out = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)
    expected = multi_scale_deformable_attn_pytorch(value, shapes.tolist(), locations, weights)
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(out)
    for one, other in zip(
        torch.autograd.grad(out, tensors, grad), torch.autograd.grad(expected, tensors, grad)
    ):
        torch.testing.assert_close(one, other)


def test_attention_gradients(device):
    shapes, starts, *tensors = attention_inputs(device)
    gradcheck(
        lambda value, *rest: MultiScaleDeformableAttnFunction.apply(
            value, shapes, starts, *rest, 64
        ),
        tensors,
        fast_mode=True,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_attention_in_half_types(device, dtype):
    shapes, starts, value, locations, weights = attention_inputs(device, dtype)
    out = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)
    out.float().sum().backward()
    full = [tensor.detach().float().requires_grad_() for tensor in (value, locations, weights)]
    expected = MultiScaleDeformableAttnFunction.apply(full[0], shapes, starts, *full[1:], 64)
    expected.sum().backward()
    assert out.dtype == value.grad.dtype == dtype
    torch.testing.assert_close(out, expected.to(dtype), rtol=0, atol=0)
    torch.testing.assert_close(locations.grad, full[1].grad.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("box", [2, 4])
def test_attention_module_trains(device, box):
    module = ops.MultiScaleDeformableAttention(16, num_heads=2, num_levels=2, num_points=3)
    module = module.to(device)
    shapes = torch.tensor([[3, 4], [2, 2]], device=device)
    query = torch.randn(5, 2, 16, device=device, requires_grad=True)
    value = torch.randn(16, 2, 16, device=device, requires_grad=True)
    out = module(
        query,
        value=value,
        reference_points=torch.rand(2, 5, 2, box, device=device),
        spatial_shapes=shapes,
        level_start_index=torch.tensor([0, 12], device=device),
    )
    out.square().sum().backward()
    assert out.shape == query.shape
    assert value.grad.abs().sum() > 0
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
