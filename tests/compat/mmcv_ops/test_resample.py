"""CARAFE against its formula written as loops, and masked convolution against a convolution."""

import pytest
import torch
import torch.nn.functional as F
from mmcv import ops
from torch.autograd import gradcheck


def naive_carafe(features, masks, kernel_size, groups, scale):
    batch, channels, height, width = features.shape
    out = features.new_zeros(batch, channels, height * scale, width * scale)
    radius = kernel_size // 2
    padded = F.pad(features, [radius] * 4)
    for channel in range(channels):
        first = channel // (channels // groups) * kernel_size**2
        for y in range(height * scale):
            for x in range(width * scale):
                row, column = y // scale, x // scale
                window = padded[:, channel, row : row + kernel_size, column : column + kernel_size]
                kernel = masks[:, first : first + kernel_size**2, y, x]
                out[:, channel, y, x] = (window.flatten(1) * kernel).sum(1)
    return out


@pytest.mark.parametrize(("kernel_size", "groups", "scale"), [(3, 1, 2), (5, 2, 2), (1, 2, 3)])
def test_carafe(device, kernel_size, groups, scale):
    features = torch.randn(2, 4, 3, 5, dtype=torch.float64, device=device, requires_grad=True)
    masks = torch.rand(
        2, groups * kernel_size**2, 3 * scale, 5 * scale, dtype=torch.float64, device=device
    ).requires_grad_()
    options = (kernel_size, groups, scale)
    expected = naive_carafe(features, masks, *options)
    torch.testing.assert_close(ops.carafe(features, masks, *options), expected)
    torch.testing.assert_close(ops.carafe_naive(features, masks, *options), expected)
    gradcheck(lambda x, m: ops.carafe(x, m, *options), (features, masks), fast_mode=True)


def test_carafe_pack_trains(device):
    module = ops.CARAFEPack(8, scale_factor=2).to(device)
    x = torch.randn(1, 8, 4, 5, device=device, requires_grad=True)
    out = module(x)
    out.square().sum().backward()
    assert out.shape == (1, 8, 8, 10)
    for name, parameter in module.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert module(x).shape == out.shape


def test_masked_conv_computes_only_where_the_mask_is(device):
    conv = ops.MaskedConv2d(3, 4, 3, padding=1).to(device)
    x = torch.randn(1, 3, 6, 7, device=device)
    mask = torch.rand(1, 6, 7, device=device) > 0.6
    with torch.no_grad():
        torch.testing.assert_close(conv(x, mask), conv(x) * mask)
        assert not conv(x, torch.zeros_like(mask)).any()
