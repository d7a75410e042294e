import pytest
import torch

from mmeffvit.ops import layer_norm_2d, map_layout


@pytest.mark.parametrize("implementation", ["reference", "fused"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_norm_is_that_of_every_pixel(implementation, channels_last):
    x = torch.randn(2, 6, 3, 5)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    tensors = [t.requires_grad_() for t in (x, torch.randn(6), torch.randn(6))]
    out = layer_norm_2d(*tensors, 1e-3, implementation=implementation)
    weight = torch.randn_like(out)
    grads = torch.autograd.grad((out * weight).sum(), tensors)

    doubles = [t.detach().double().requires_grad_() for t in tensors]
    x, scale, shift = doubles
    centred = x - x.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-3).sqrt()
    expected = normed * scale[:, None, None] + shift[:, None, None]
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)
    for ours, reference in zip(grads, torch.autograd.grad((expected * weight).sum(), doubles)):
        torch.testing.assert_close(ours.double(), reference, atol=1e-5, rtol=1e-5)


def test_layouts():
    x = torch.randn(2, 6, 3, 5)
    fused = map_layout(x, implementation="fused")
    assert fused.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(fused, x)
    assert map_layout(fused, implementation="reference").is_contiguous()
    assert map_layout(x, implementation="reference").data_ptr() == x.data_ptr()


def test_a_norm_of_a_channels_last_map_keeps_the_layout():
    x = torch.randn(2, 6, 3, 5).contiguous(memory_format=torch.channels_last)
    out = layer_norm_2d(x, torch.ones(6), torch.zeros(6), 1e-6, implementation="fused")
    assert out.is_contiguous(memory_format=torch.channels_last)
