"""Token mixers under float16 autocast: products of activations that float16 does not hold.

Sums over maps of 200 x 336 are those of operators, in `tests/ops/test_numerics.py`.
"""

import copy

import pytest
import torch
from torch import nn

from mmeffvit.layers import (
    GatedSoftmaxMixer,
    MapContext,
    MaSAMixer,
    RALAMixer,
    S3AMixer,
    SECMixer,
)
from mmeffvit.testing import relative_rms_error

LARGE, SMALL = (50, 84), (12, 21)
DIM = 16
MIXERS = [
    (RALAMixer, {}, LARGE),
    (SECMixer, {"num_clusters": 256}, LARGE),
    (S3AMixer, {"max_kernel": 13}, LARGE),
    (MaSAMixer, {"decomposed": True}, LARGE),
    (GatedSoftmaxMixer, {}, SMALL),
    (SECMixer, {}, SMALL),
    (MaSAMixer, {}, SMALL),
]
mixers = pytest.mark.parametrize(
    ("cls", "options", "size"), MIXERS, ids=[f"{c.__name__}-{s}" for c, _, s in MIXERS]
)


def build(cls, options, query_scale):
    """Queries and keys of a size, values and gate of a thousand, for inputs of size one."""
    torch.manual_seed(0)
    mixer = cls(DIM, 1, **options)
    scales = torch.full((len(mixer.qkv.weight) // DIM,), 1e3)
    scales[:2] = query_scale
    std = scales.repeat_interleave(DIM)[:, None, None, None] * DIM**-0.5
    with torch.no_grad():
        mixer.qkv.weight.copy_(torch.randn_like(mixer.qkv.weight) * std)
        # what the projection makes of products of 1e6 fits into float16
        nn.init.normal_(mixer.proj.weight, std=1e-3)
    return mixer


def run(mixer, x):
    x = x.clone().requires_grad_()
    out = mixer(x, MapContext.of(x))
    (grad,) = torch.autograd.grad((out * 1e-6).sum(), x)
    return out.detach(), grad


@mixers
def test_nothing_overflows(cls, options, size):
    mixer = build(cls, options, query_scale=1e3 if cls is not RALAMixer else 1.0)
    x = torch.randn(1, DIM, *size)
    with torch.autocast("cpu", dtype=torch.float16):
        out, grad = run(mixer, x)
    assert out.dtype == torch.float16
    assert out.isfinite().all()
    assert grad.isfinite().all()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
@pytest.mark.parametrize("cls", [RALAMixer, GatedSoftmaxMixer])
def test_gated_products_against_float64(cls, dtype, tolerance):
    mixer = build(cls, {}, query_scale=0.3)
    x = torch.randn(1, DIM, *SMALL)
    with torch.no_grad():
        with torch.autocast("cpu", dtype=dtype):
            out = mixer(x, MapContext.of(x))
        expected = copy.deepcopy(mixer).double()(x.double(), MapContext.of(x))
    assert expected.abs().max() < 65504
    assert out.dtype == dtype
    assert relative_rms_error(out, expected) < tolerance


def test_linear_attention_of_a_thousand_with_a_published_head_dimension():
    """With 64 channels, half of them zero, every query meets the mean key in some of them."""
    torch.manual_seed(0)
    mixer = RALAMixer(64, 1)
    with torch.no_grad():
        mixer.qkv.weight.normal_(std=1e3 / 8)
        mixer.proj.weight.normal_(std=1e-4)
    with torch.autocast("cpu", dtype=torch.float16):
        out, grad = run(mixer, torch.randn(1, 64, 25, 42))
    assert out.isfinite().all()
    assert grad.isfinite().all()
