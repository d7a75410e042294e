import pytest
import torch
import torch.nn.functional as F

from mmeffvit.ops import depthwise_conv2d
from mmeffvit.ops.depthwise_conv import fused


def _inputs(size, kernel, channels_last):
    x = torch.randn(2, 6, *size)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    tensors = x, torch.randn(6, 1, kernel, kernel), torch.randn(6)
    return [t.requires_grad_() for t in tensors]


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("size", [(9, 13), (1, 6), (2, 2), (16, 16)])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("implementation", ["reference", "fused"])
def test_outputs_and_gradients_in_float64(implementation, residual, kernel, size, channels_last):
    tensors = _inputs(size, kernel, channels_last)
    weight = torch.randn(2, 6, *size)
    out = depthwise_conv2d(*tensors, residual=residual, implementation=implementation)
    actual = torch.autograd.grad((out * weight).sum(), tensors)

    doubles = [t.detach().double().requires_grad_() for t in tensors]
    plain = F.conv2d(*doubles, padding=kernel // 2, groups=6) + residual * doubles[0]
    expected = torch.autograd.grad((plain * weight).sum(), doubles)
    torch.testing.assert_close(out.double(), plain, atol=1e-5, rtol=1e-5)
    for ours, reference in zip(actual, expected):
        torch.testing.assert_close(ours.double(), reference, atol=1e-4, rtol=1e-4)


def test_the_path_of_5x5_gradients_is_the_one_that_runs(monkeypatch):
    calls = []
    original = fused._weight_gradient
    monkeypatch.setattr(
        fused, "_weight_gradient", lambda *args: (calls.append(1), original(*args))[1]
    )
    tensors = _inputs((4, 5), 5, True)
    depthwise_conv2d(*tensors, implementation="fused").sum().backward()
    assert calls
    calls.clear()
    depthwise_conv2d(*tensors, implementation="reference").sum().backward()
    assert not calls


def test_float64_and_autocast_take_the_plain_path():
    x, weight, bias = (t.detach().double().requires_grad_() for t in _inputs((3, 4), 5, True))
    assert torch.autograd.gradcheck(depthwise_conv2d, (x, weight, bias))
    x, weight, bias = _inputs((5, 7), 5, True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = depthwise_conv2d(x, weight, bias)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert weight.grad.shape == (6, 1, 5, 5)


def test_frozen_input_and_frozen_bias():
    x, weight, bias = _inputs((5, 7), 5, True)
    depthwise_conv2d(x.detach(), weight, bias.detach()).sum().backward()
    assert weight.grad is not None


def test_small_weights_survive_the_identity_in_low_precision():
    """Next to one, bfloat16 rounds weights to multiples of 2^-7."""
    x = torch.ones(1, 4, 5, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = depthwise_conv2d(x, torch.full((4, 1, 3, 3), 1e-3), torch.zeros(4), residual=True)
    assert (out - x)[0, 0, 2, 2].item() == pytest.approx(9e-3, rel=0.01)


def test_meta_device():
    x, weight, bias = (t.to("meta") for t in _inputs((5, 7), 3, True))
    assert depthwise_conv2d(x, weight, bias, residual=True).shape == x.shape


@pytest.mark.parametrize("shape", [(6, 1, 4, 4), (5, 1, 3, 3), (6, 1, 3, 5), (6, 2, 3, 3)])
def test_kernels_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(C, 1, k, k\) with an odd k"):
        depthwise_conv2d(torch.randn(1, 6, 8, 8), torch.randn(shape), torch.zeros(6))
