"""MSA-Conv against the authors' numbers, and the formula with shifted copies of the map."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmeffvit.layers import ConvDownsample, MapContext, MSAConvMixer
from mmeffvit.layers.msa_conv import MSAConv2d
from mmeffvit.testing import TOLERANCES, check_golden

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "tic.npz"


def shifted_copies(x, layer, kernel, dilation, heads, stride=1, padding=1, act=True):
    """Steps 1 to 6 of the operator: logits of every cell from a copy of the map, moved."""
    height, width = x.shape[2:]
    q, k, v = F.conv2d(x, layer.qkv.weight, layer.qkv.bias).chunk(3, 1)
    reach = [dilation * (side - 1) // 2 for side in kernel]
    k, v = (F.pad(t, (reach[1], reach[1], reach[0], reach[0])) for t in (k, v))
    out = []
    for one in zip(*(t.chunk(heads, 1) for t in (q, k, v))):
        copies = [
            [
                t[:, :, i * dilation :, j * dilation :][:, :, :height, :width]
                for i in range(kernel[0])
                for j in range(kernel[1])
            ]
            for t in one[1:]
        ]
        scale = one[0].shape[1] ** -0.5
        logits = torch.stack([(one[0] * c).sum(1) for c in copies[0]], 1) * scale
        weights = logits.softmax(1)
        out.append(sum(weights[:, n, None] * c for n, c in enumerate(copies[1])))
    attended = torch.cat(out, 1)
    y = F.conv2d(attended + x, layer.conv.weight, layer.conv.bias, stride, padding)
    return y.relu() if act else y


def test_equals_the_authors_numbers():
    errors = check_golden(GOLDEN)
    assert {f"op/msa_conv_{i}/{name}" for i in range(3) for name in ("out", "mid/attn_out")} < {
        *errors
    }
    assert max(errors.values()) < 2e-5 < TOLERANCES["tic"]


@pytest.mark.parametrize("implementation", ["fused", "reference"])
@pytest.mark.parametrize(
    ("size", "kernel", "dilation", "heads"),
    [
        ((7, 5), (3, 3), 1, 1),
        ((5, 8), (5, 3), 2, 2),
        ((1, 1), (3, 3), 1, 1),
        ((2, 3), (3, 3), 4, 1),  # shorter than the dilation
        ((9, 6), (1, 5), 1, 3),
    ],
)
def test_equals_shifted_copies_with_gradients(size, kernel, dilation, heads, implementation):
    torch.manual_seed(0)
    options = {"dilation": dilation, "num_heads": heads, "bias": True}
    layer = MSAConv2d(6, 4, kernel, padding=2, implementation=implementation, **options).double()
    x = torch.randn(2, 6, *size, dtype=torch.float64, requires_grad=True)
    results = []
    for out in (layer(x), shifted_copies(x, layer, kernel, dilation, heads, padding=2)):
        loss = (out * out.detach().sin()).sum()
        results.append([out, *torch.autograd.grad(loss, [x, *layer.parameters()])])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_in_the_place_of_down_sampling():
    layer, other = MSAConv2d(6, 12, stride=2), ConvDownsample(6, 12)
    for size in ((9, 14), (8, 5)):
        x = torch.randn(1, 6, *size)
        out = layer(x)
        assert out.shape == other(x).shape
        torch.testing.assert_close(out, shifted_copies(x, layer, (3, 3), 1, 1, stride=2))
    # the padding of the authors' default shrinks a map where the kernel is larger
    assert MSAConv2d(6, 6, 5)(torch.randn(1, 6, 9, 14)).shape[2:] == (7, 12)
    # 3 C^2 + 3 C + C C' k^2
    assert sum(p.numel() for p in layer.parameters()) == 3 * 36 + 18 + 6 * 12 * 9


@pytest.mark.parametrize("act", ["relu", None])
def test_mixer(act):
    mixer = MSAConvMixer(8, 2, kernel_size=5, dilation=2, act=act)
    x = torch.randn(2, 8, 6, 11)
    out = mixer(x, MapContext.of(x))
    expected = shifted_copies(x, mixer.msa_conv, (5, 5), 2, 2, padding=2, act=act)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
    assert (out < 0).any() == (act is None)


def test_impossible():
    with pytest.raises(ValueError, match="odd kernel_size and act 'relu' or None, got 4"):
        MSAConv2d(6, 6, 4)
    with pytest.raises(ValueError, match="got 3 and 'gelu'"):
        MSAConvMixer(6, act="gelu")
    with pytest.raises(ValueError, match="multiple of num_heads, got 6 and 4"):
        MSAConvMixer(6, 4)
