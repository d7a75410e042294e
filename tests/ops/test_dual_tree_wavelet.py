"""The wavelet transform and spectral gating: inverse, formulas, derivatives, and what is kept."""

import math

import pytest
import torch

from mmeffvit.ops import dual_tree_wavelet, inverse_dual_tree_wavelet, spectral_gating
from mmeffvit.ops.dual_tree_wavelet.filters import filters
from mmeffvit.testing import relative_rms_error

CHANNELS, GROUPS = 8, 4


def arguments(height, width, dtype=torch.float64):
    """A map, its gate, and the weights of both layers."""
    torch.manual_seed(0)
    k = CHANNELS // GROUPS
    shapes = [(2, CHANNELS, height, width), (CHANNELS, height, width)]
    shapes += [(2, GROUPS, k, k), (2, GROUPS, k)] * 2
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def test_filters_are_the_published_fractions():
    low, high = filters(False, torch.float64, torch.device("cpu"))
    taps = [-9, 0, 114, -240, -247, 1520, 2844, 1520, -247, -240, 114, 0, -9]
    assert (low[3:16] * 5120).tolist() == pytest.approx(taps)
    assert not low[:3].any()
    assert float(high[9] * 1146880) == pytest.approx(641600)
    # a low-pass filter keeps a constant, a high-pass filter drops it
    assert [float(h.sum()) for h in (low, high)] == pytest.approx([1, 0], abs=1e-12)
    low, high = filters(True, torch.float64, torch.device("cpu"))
    assert [float(h.sum()) for h in (low, high)] == pytest.approx([1, 0], abs=1e-12)


@pytest.mark.parametrize("implementation", ["fused", "reference"])
@pytest.mark.parametrize("size", [(2, 2), (2, 6), (8, 14), (30, 22)])
def test_inverse(size, implementation):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    low, bands = dual_tree_wavelet(x, implementation=implementation)
    assert low.shape == x.shape
    assert bands.shape == (2, 3, 6, size[0] // 2, size[1] // 2, 2)
    back = inverse_dual_tree_wavelet(low, bands, implementation=implementation)
    torch.testing.assert_close(back, x, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [(2, 4), (10, 6), (24, 20)])
def test_implementations_agree(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    results = []
    for implementation in ("fused", "reference"):
        low, bands = dual_tree_wavelet(x, implementation=implementation)
        back = inverse_dual_tree_wavelet(low.sin(), bands.cos(), implementation=implementation)
        loss = (back * back.detach().sin()).sum()
        results.append([low, bands, back, *torch.autograd.grad(loss, x)])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("size", [(2, 4), (10, 6), (24, 20)])
def test_gating_agrees_with_the_formula(size):
    given = arguments(*size)
    results = []
    for implementation in ("fused", "reference"):
        out = spectral_gating(*given, implementation=implementation)
        results.append([out, *torch.autograd.grad((out * out.detach().sin()).sum(), given)])
    for actual, expected in zip(*results, strict=True):
        assert relative_rms_error(actual, expected) < 1e-12


def test_second_derivatives_of_the_transform():
    x = torch.randn(1, 1, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda t: dual_tree_wavelet(t)[1] ** 2, x)


def test_gating_keeps_its_input_alone():
    given = arguments(24, 20, torch.float32)
    x = given[0]
    own = {t.untyped_storage().data_ptr() for t in given[1:]}

    def kept(implementation):
        """Numbers that are kept for the backward pass, beside the weights, over those of x."""
        storages = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            out = spectral_gating(*given, implementation=implementation)
        return sum(storages.values()) / x.nbytes, out

    assert kept("fused")[0] == 1
    assert kept("reference")[0] > 9
    # the transform is linear, and keeps nothing but the order of its bands
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t), lambda t: t):
        inverse_dual_tree_wavelet(*dual_tree_wavelet(x, implementation="fused"))
    assert not [t for t in saved if t.is_floating_point()]


def test_bands_answer_to_edges_of_six_directions():
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    for band, degrees in enumerate((15, 45, 75, 105, 135, 165)):
        angle = math.radians(degrees)
        waves = torch.cos(2.4 * (columns * math.sin(angle) + rows * math.cos(angle)))
        _, bands = dual_tree_wavelet(waves[None, None])
        strength = bands[0, 0].square().sum(-1).mean((1, 2))
        assert strength.argmax() == band, degrees


def test_half_precision_is_computed_in_full():
    given = [t.detach() for t in arguments(10, 12, torch.float32)]
    expected = spectral_gating(*given)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(spectral_gating(*given), expected)
    half = spectral_gating(given[0].bfloat16(), *given[1:])
    assert half.dtype == torch.bfloat16
    assert relative_rms_error(half.float(), expected) < 0.01


def test_impossible():
    with pytest.raises(ValueError, match=r"even number of rows and columns, got \(3, 4\)"):
        dual_tree_wavelet(torch.zeros(1, 1, 3, 4))
    with pytest.raises(ValueError, match="needs bands"):
        inverse_dual_tree_wavelet(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 6, 4, 4, 2))
    given = arguments(4, 4)
    with pytest.raises(ValueError, match="needs a gate"):
        spectral_gating(given[0], given[1][:, :2], *given[2:])
