import pytest
import torch
import torch.nn.functional as F

from mmeffvit.ops import strided_conv2d
from mmeffvit.ops.strided_conv import fused


@pytest.mark.parametrize("implementation", ["fused", "reference"])
@pytest.mark.parametrize("channels_last", [True, False])
# padded as in CrossFormer and not at all; sides that the last kernel does not reach the end of
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [((16, 24), 16, 4, 6), ((37, 21), 16, 4, 0), ((7, 9), 8, 2, 3), ((8, 8), 6, 2, 2)],
)
def test_outputs_and_gradients_in_float64(
    size, kernel, stride, padding, channels_last, implementation
):
    x, weight, bias = (
        t.requires_grad_()
        for t in (torch.randn(2, 3, *size), torch.randn(5, 3, kernel, kernel), torch.randn(5))
    )
    given = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    out = strided_conv2d(given, weight, bias, stride, padding, implementation=implementation)
    seed = torch.randn_like(out)
    actual = torch.autograd.grad((out * seed).sum(), (x, weight, bias))
    doubles = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
    plain = F.conv2d(*doubles, stride=stride, padding=padding)
    expected = torch.autograd.grad((plain * seed).sum(), doubles)
    torch.testing.assert_close(out.double(), plain, atol=2e-4, rtol=1e-5)
    for ours, reference in zip(actual, expected):
        torch.testing.assert_close(ours.double(), reference, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "learns", "folded"), [(16, True, True), (16, False, False), (8, True, False)]
)
def test_only_large_kernels_that_learn_are_folded(kernel, learns, folded, monkeypatch):
    calls = []
    original = F.pixel_unshuffle
    monkeypatch.setattr(
        fused.F, "pixel_unshuffle", lambda *args: (calls.append(1), original(*args))[1]
    )
    weight = torch.randn(2, 3, kernel, kernel, requires_grad=learns)
    strided_conv2d(torch.randn(1, 3, 32, 32), weight, torch.zeros(2), 4, (kernel - 4) // 2)
    assert bool(calls) == folded
    with torch.no_grad():
        calls.clear()
        strided_conv2d(torch.randn(1, 3, 32, 32), weight, torch.zeros(2), 4, (kernel - 4) // 2)
    assert not calls


def test_second_derivatives_and_low_precision():
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda *t: strided_conv2d(*t, 2, 3), (x, weight, bias))
    x, weight, bias = (t.detach().float() for t in (x, weight, bias))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = strided_conv2d(x, weight.requires_grad_(), bias, 2, 3)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), F.conv2d(x, weight, bias, 2, 3), atol=0.3, rtol=0.02)
