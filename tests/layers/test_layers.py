import pytest
import torch

from mmeffvit.layers import (
    ConvDownsample,
    ConvFFN,
    ConvStem,
    DropPath,
    LayerNorm2d,
    LayerScale2d,
    MapContext,
    SECMixer,
)
from mmeffvit.layers.context import rotary_2d
from mmeffvit.ops import apply_rotary, rotary_table_2d, sec_attention


def test_layer_norm_2d_is_over_channels():
    norm = LayerNorm2d(6, eps=1e-3)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 3, 5)
    centred = x - x.mean(1, keepdim=True)
    expected = centred / (x.var(1, keepdim=True, unbiased=False) + 1e-3).sqrt()
    expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected)


def test_stem_halves_twice_rounding_up():
    stem = ConvStem(3, (4, 4, 4, 8), (2, 1, 1, 2))
    assert [type(m).__name__ for m in stem] == [
        *["Conv2d", "BatchNorm2d", "GELU"] * 3,
        "Conv2d",
        "BatchNorm2d",
    ]
    assert stem(torch.randn(2, 3, 33, 50)).shape == (2, 8, 9, 13)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        ConvStem(3, (4, 4), (2,))


def test_downsample_halves_rounding_up():
    assert ConvDownsample(4, 6)(torch.randn(1, 4, 5, 8)).shape == (1, 6, 3, 4)


def test_ffn_adds_the_depthwise_convolution():
    ffn = ConvFFN(4, 12)
    x = torch.randn(2, 4, 5, 6)
    hidden = torch.nn.functional.gelu(ffn.fc1(x))
    conv = torch.nn.functional.conv2d(
        hidden, ffn.dwconv.weight, ffn.dwconv.bias, padding=1, groups=12
    )
    torch.testing.assert_close(ffn(x), ffn.fc2(hidden + conv))


def test_layer_scale_multiplies_channels():
    scale = LayerScale2d(3, 0.5)
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(scale(x), 0.5 * x)
    with torch.no_grad():
        scale.gamma.copy_(torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(scale(x)[:, 2], 3 * x[:, 2])


class TestDropPath:
    def test_drops_whole_samples_and_keeps_the_mean(self):
        drop = DropPath(0.25).train()
        out = drop(torch.ones(4000, 2, 1, 1))
        assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
        assert torch.equal(out[:, 0], out[:, 1])
        assert out.mean().item() == pytest.approx(1, abs=0.03)

    def test_is_the_identity_in_evaluation(self):
        x = torch.randn(3, 4)
        assert DropPath(0.9).eval()(x) is x

    @pytest.mark.parametrize("rate", [-0.1, 1.0])
    def test_rate_must_be_possible(self, rate):
        with pytest.raises(ValueError, match=r"in \[0, 1\)"):
            DropPath(rate)


class TestSECMixer:
    @pytest.mark.parametrize("channels_last", [False, True])
    @pytest.mark.parametrize("size", [(6, 10), (5, 7), (1, 9)])
    def test_projections_attention_and_local_enhancement(self, size, channels_last):
        """Against the sheet's order of channels, on maps that are not square."""
        mixer = SECMixer(16, 2, num_clusters=3)
        x = torch.randn(2, 16, *size)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        qkv = torch.nn.functional.conv2d(x, mixer.qkv.weight, mixer.qkv.bias)
        q, k, v = (t.flatten(2).transpose(1, 2).reshape(2, -1, 2, 8) for t in qkv.chunk(3, dim=1))
        table = rotary_table_2d(*size, 8)
        attended = sec_attention(
            apply_rotary(q, table), apply_rotary(k, table), v, 3, implementation="reference"
        )
        image = attended.flatten(2).transpose(1, 2).reshape(2, 16, *size)
        expected = mixer.proj(image + mixer.lepe(qkv[:, 32:]))
        torch.testing.assert_close(mixer(x, MapContext.of(x)), expected)

    def test_clusters_follow_the_map_if_asked(self):
        fixed = SECMixer(8, 1, num_clusters=32)
        assert [fixed.core.clusters_for(n) for n in (10, 32, 67200)] == [10, 32, 32]
        following = SECMixer(8, 1, num_clusters=32, tokens_per_cluster=98)
        # at 800 x 1344 the three clustered stages have these tokens
        counts = [following.core.clusters_for(n) for n in (67200, 16800, 4200, 9)]
        assert counts == [686, 171, 43, 1]
        full = SECMixer(8, 1, num_clusters=-1, tokens_per_cluster=98)
        assert full.core.clusters_for(67200) == 1

    def test_impossible_sizes(self):
        with pytest.raises(ValueError, match="multiple of num_heads, got 10 and 4"):
            SECMixer(10, 4)
        with pytest.raises(ValueError, match="multiple of 4, got 12 / 2"):
            SECMixer(12, 2)
        with pytest.raises(ValueError, match="tokens_per_cluster must be at least 1, got 0"):
            SECMixer(8, 1, tokens_per_cluster=0)


def test_context_makes_each_table_once():
    context = MapContext.of(torch.empty(1, 8, 3, 4))
    assert context.num_tokens == 12
    assert rotary_2d(context, 8) is rotary_2d(context, 8)
    assert rotary_2d(context, 8).shape == (12, 4, 2)
