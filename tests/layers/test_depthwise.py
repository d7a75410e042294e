import pytest
import torch

from mmeffvit.layers import depthwise
from mmeffvit.layers.depthwise import DepthwiseConv5x5, ResidualDepthwiseConv3x3


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("size", [(9, 13), (1, 6), (2, 2), (16, 16)])
def test_gradients_are_those_of_the_plain_convolution(monkeypatch, size, channels_last):
    conv = DepthwiseConv5x5(6)
    x = torch.randn(2, 6, *size)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    weight = torch.randn(2, 6, *size)
    tensors = [x, conv.weight, conv.bias]
    calls = []
    original = depthwise._weight_gradient
    monkeypatch.setattr(
        depthwise, "_weight_gradient", lambda *args: (calls.append(1), original(*args))[1]
    )
    out = conv(x)
    actual = torch.autograd.grad((out * weight).sum(), tensors)
    assert calls, "the path under test did not run"

    doubles = [t.detach().double().requires_grad_() for t in tensors]
    plain = torch.nn.functional.conv2d(*doubles, padding=2, groups=6)
    expected = torch.autograd.grad((plain * weight).sum(), doubles)
    torch.testing.assert_close(out.double(), plain, atol=1e-5, rtol=1e-5)
    for ours, reference in zip(actual, expected):
        torch.testing.assert_close(ours.double(), reference, atol=1e-4, rtol=1e-4)


def test_other_types_take_the_plain_path():
    conv = DepthwiseConv5x5(4).double()
    x = torch.randn(1, 4, 5, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, (x,))
    half = DepthwiseConv5x5(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = half(torch.randn(1, 4, 5, 7))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert half.weight.grad.shape == (4, 1, 5, 5)


def test_frozen_input_and_frozen_bias():
    conv = DepthwiseConv5x5(4)
    conv.bias.requires_grad_(False)
    conv(torch.randn(1, 4, 5, 7)).sum().backward()
    assert conv.weight.grad is not None
    assert conv.bias.grad is None


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("size", [(9, 13), (1, 6), (2, 2)])
def test_residual_convolution_and_its_gradients(size, channels_last):
    conv = ResidualDepthwiseConv3x3(6)
    x = torch.randn(2, 6, *size)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    weight = torch.randn(2, 6, *size)
    tensors = [x, conv.weight, conv.bias]
    out = conv(x)
    actual = torch.autograd.grad((out * weight).sum(), tensors)

    doubles = [t.detach().double().requires_grad_() for t in tensors]
    plain = doubles[0] + torch.nn.functional.conv2d(*doubles, padding=1, groups=6)
    expected = torch.autograd.grad((plain * weight).sum(), doubles)
    torch.testing.assert_close(out.double(), plain, atol=1e-6, rtol=1e-6)
    for ours, reference in zip(actual, expected):
        torch.testing.assert_close(ours.double(), reference, atol=1e-5, rtol=1e-5)


def test_residual_convolution_keeps_small_weights_in_low_precision():
    """Next to one, bfloat16 rounds weights to multiples of 2^-7."""
    conv = ResidualDepthwiseConv3x3(4)
    torch.nn.init.constant_(conv.weight, 1e-3)
    torch.nn.init.zeros_(conv.bias)
    x = torch.ones(1, 4, 5, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        middle = conv(x) - x
    assert middle[0, 0, 2, 2].item() == pytest.approx(9e-3, rel=0.01)


def test_residual_convolution_on_the_meta_device():
    assert ResidualDepthwiseConv3x3(4).to("meta")(torch.ones(1, 4, 5, 5, device="meta")).is_meta
