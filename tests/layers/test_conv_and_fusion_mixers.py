"""RELA, gated convolutions, pooled attention, fusion of mixers, and the gated FFN: as written."""

import pytest
import torch
import torch.nn.functional as F

from mmeffvit.layers import (
    FusionMixer,
    GatedConvFFN,
    GatedConvMixer,
    MapContext,
    PooledMixer,
    RELAMixer,
)
from mmeffvit.models import PyramidViT
from mmeffvit.visualization.attention import find_mixers

SIZES = [(5, 7), (1, 9), (1, 1)]


def run(mixer, size, channels=12):
    torch.manual_seed(0)
    mixer = mixer.double()
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    return x, mixer(x, MapContext.of(x))


@pytest.mark.parametrize("size", SIZES)
def test_rela_is_linear_attention_and_a_convolution_of_the_values(size):
    mixer = RELAMixer(12, 3)
    x, actual = run(mixer, size)
    q, k, v = F.conv2d(x, mixer.qkv.weight, mixer.qkv.bias).chunk(3, 1)
    tokens = [t.flatten(2).unflatten(1, (3, 4)) for t in (q, k, v)]  # (B, h, d, L)
    query, key = (F.elu(t) + 1 for t in tokens[:2])
    weights = query.transpose(2, 3) @ key
    weights = weights / (weights.sum(-1, keepdim=True) + 1e-6 * weights.shape[-1])
    attended = (tokens[2] @ weights.transpose(2, 3)).flatten(1, 2).view_as(x)
    local = F.conv2d(v, mixer.lepe.weight, mixer.lepe.bias, padding=2, groups=12)
    torch.testing.assert_close(actual, mixer.proj(attended + local))


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", SIZES)
def test_gated_convolution(size, kernel):
    mixer = GatedConvMixer(12, 3, kernel)
    x, actual = run(mixer, size)
    x = F.conv2d(x, mixer.proj_in.weight, mixer.proj_in.bias)
    conv = mixer.dwconv
    x = F.gelu(F.conv2d(x, conv.weight, conv.bias, padding=kernel // 2, groups=12))
    gate = F.linear(x.mean((2, 3)), mixer.gate.weight[..., 0, 0], mixer.gate.bias).sigmoid()
    expected = F.conv2d(x * gate[..., None, None], mixer.proj.weight, mixer.proj.bias)
    torch.testing.assert_close(actual, expected)


def test_gate_of_a_large_map_in_float16():
    """A sum of 2^16 activations is beyond float16, their mean is not."""
    mixer = GatedConvMixer(2)
    torch.nn.init.constant_(mixer.proj_in.bias, 8.0)
    x = torch.randn(1, 2, 256, 256)
    with torch.no_grad():
        expected = mixer(x, MapContext.of(x))
        with torch.autocast("cpu", dtype=torch.float16):
            actual = mixer(x, MapContext.of(x))
    assert (actual - expected).abs().mean() < 1e-2 * expected.abs().mean()


@pytest.mark.parametrize("reduction", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_pooled_keys_are_means_of_the_tokens_that_are_there(size, reduction):
    mixer = PooledMixer(12, 3, reduction)
    x, actual = run(mixer, size)
    q, k, v = F.conv2d(x, mixer.qkv.weight, mixer.qkv.bias).chunk(3, 1)

    def cells(t):
        rows = [r.mean(2, keepdim=True) for r in t.split(reduction, 2)]
        parts = [c.mean(3, keepdim=True) for c in torch.cat(rows, 2).split(reduction, 3)]
        return torch.cat(parts, 3)

    q, k, v = (t.flatten(2).unflatten(1, (3, 4)) for t in (q, cells(k), cells(v)))
    weights = (q.transpose(2, 3) @ k / 2).softmax(-1)
    attended = (v @ weights.transpose(2, 3)).flatten(1, 2).view_as(x)
    torch.testing.assert_close(actual, mixer.proj(attended))
    with pytest.raises(ValueError, match="reduction must be at least 1, got 0"):
        PooledMixer(12, 3, 0)


MIXERS = [{"type": "mmeffvit.GatedConvMixer"}, {"type": "mmeffvit.PooledMixer", "reduction": 2}]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_each_token_chooses_between_mixers(size, count):
    mixer = FusionMixer(12, 3, [*MIXERS, {"type": "mmeffvit.RELAMixer"}][:count])
    x, actual = run(mixer, size)
    context = MapContext.of(x)
    maps = torch.stack([m(x, context) for m in mixer.mixers], 1)  # (B, K, C, H, W)
    k, v = torch.einsum("bkchw,dc->bkdhw", maps, mixer.kv.weight).chunk(2, 2)
    k_bias, v_bias = mixer.kv.bias.chunk(2)
    k, v = (
        (t + bias[:, None, None]).unflatten(2, (3, 4)) for t, bias in ((k, k_bias), (v, v_bias))
    )
    q = mixer.query(x).unflatten(1, (3, 4))
    weights = (torch.einsum("bndhw,bkndhw->bknhw", q, k) / 2).softmax(1)
    out = torch.einsum("bknhw,bkndhw->bndhw", weights, v).flatten(1, 2)
    torch.testing.assert_close(actual, mixer.proj(out))


def test_fusion_needs_two():
    with pytest.raises(ValueError, match="joins two or more mixers, got 1"):
        FusionMixer(12, 3, MIXERS[:1])


def test_gated_ffn():
    ffn = GatedConvFFN(6, 10)
    x = torch.randn(2, 6, 4, 5)
    hidden = F.conv2d(ffn.fc1(x), ffn.dwconv.weight, ffn.dwconv.bias, padding=1, groups=20)
    expected = ffn.fc2(F.gelu(hidden[:, :10]) * hidden[:, 10:])
    torch.testing.assert_close(ffn(x), expected)
    assert sum(p.numel() for p in ffn.parameters()) == 3 * 6 * 10 + 22 * 10 + 6


def test_ffns_of_a_pyramid_from_a_config():
    arch = {
        "embed_dims": (8, 8, 8, 8),
        "depths": (1, 2, 1, 1),
        "num_heads": (2, 2, 2, 2),
        "mlp_ratios": (1.5, 1, 1, 1),
        "layer_scale": (None,) * 4,
        "mixers": [{"type": "mmeffvit.GatedConvMixer"}] * 4,
    }

    def names(ffns):
        stages = PyramidViT(arch, ffns=ffns).stages
        return [[type(b.ffn).__name__ for b in stage.blocks] for stage in stages]

    gated, plain = {"type": "mmeffvit.GatedConvFFN"}, {"type": "mmeffvit.MLP"}
    assert names(None) == [["ConvFFN"], ["ConvFFN"] * 2, ["ConvFFN"], ["ConvFFN"]]
    assert names(gated) == [["GatedConvFFN"], ["GatedConvFFN"] * 2] + [["GatedConvFFN"]] * 2
    mixed = [gated, [plain, gated], plain, plain]
    assert names(mixed) == [["GatedConvFFN"], ["MLP", "GatedConvFFN"], ["MLP"], ["MLP"]]
    assert PyramidViT(arch, ffns=gated).stages[0].blocks[0].ffn.fc1.out_channels == 2 * 12
    with pytest.raises(ValueError, match=r"ffns has 3 entries for 4 stages; give one per stage"):
        PyramidViT(arch, ffns=[gated] * 3)
    with pytest.raises(ValueError, match=r"ffns\[1\] has 1 entries for 2 blocks"):
        PyramidViT(arch, ffns=[gated, [gated], gated, gated])


def test_a_fusion_is_drawn_as_one_mixer():
    arch = {
        "embed_dims": (8, 8, 8, 8),
        "depths": (2, 1, 1, 1),
        "num_heads": (2, 2, 2, 2),
        "mlp_ratios": (1, 1, 1, 1),
        "layer_scale": (None,) * 4,
        "mixers": [{"type": "mmeffvit.FusionMixer", "mixers": MIXERS}] * 4,
    }
    found = find_mixers(PyramidViT(arch))
    assert [[type(m) for m in stage] for stage in found] == [
        [FusionMixer] * 2,
        *[[FusionMixer]] * 3,
    ]
