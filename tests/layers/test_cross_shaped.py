import pytest
import torch
import torch.nn.functional as F

from mmeffvit.layers import CrossShapedMixer, MapContext
from mmeffvit.layers.mixers.cross_shaped import WindowLePE
from mmeffvit.models import PyramidViT
from mmeffvit.ops import map_window_attention


def padded_stripes(x, width):
    """Vertical stripes of a (B, C, H, W) map, zeros split evenly: a list, and the zeros before."""
    missing = -x.shape[-1] % width
    x = F.pad(x, (missing // 2, missing - missing // 2))
    return x.split(width, dim=-1), missing // 2


def vertical_branch(q, k, v, lepe, heads, width):
    """One branch as the paper has it, stripe by stripe, on (B, C, H, W) maps."""
    outs = []
    (qs, before), (ks, _), (vs, _) = (padded_stripes(t, width) for t in (q, k, v))
    for q_, k_, v_ in zip(qs, ks, vs):
        tokens = [t.flatten(2).unflatten(1, (heads, -1)) for t in (q_, k_, v_)]  # (B, h, d, N)
        dim = tokens[0].shape[2]
        weights = (tokens[0].transpose(2, 3) * dim**-0.5 @ tokens[1]).softmax(-1)
        attended = (tokens[2] @ weights.transpose(2, 3)).flatten(1, 2).view_as(v_)
        outs.append(attended + F.conv2d(v_, lepe.weight, lepe.bias, padding=1, groups=len(v_[0])))
    return torch.cat(outs, dim=-1)[..., before : before + q.shape[-1]]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("width", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [(6, 10), (5, 7), (1, 9), (3, 2)])
def test_first_half_vertical_second_half_horizontal(size, width, channels_last):
    mixer = CrossShapedMixer(16, 4, width)
    x = torch.randn(2, 16, *size)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    qkv = F.conv2d(x, mixer.qkv.weight, mixer.qkv.bias).chunk(3, dim=1)
    vertical, horizontal = zip(*(t.chunk(2, dim=1) for t in qkv))
    flipped = WindowLePE(8, (None, width))
    flipped.load_state_dict(
        {"weight": mixer.lepe[1].weight.transpose(2, 3), "bias": mixer.lepe[1].bias}
    )
    expected = [
        vertical_branch(*vertical, mixer.lepe[0], 2, width),
        vertical_branch(*(t.mT for t in horizontal), flipped, 2, width).mT,
    ]
    expected = mixer.proj(torch.cat(expected, dim=1))
    torch.testing.assert_close(mixer(x, MapContext.of(x)), expected, atol=1e-5, rtol=1e-4)


def test_without_stripes_all_heads_see_the_map():
    mixer = CrossShapedMixer(12, 3)
    x = torch.randn(2, 12, 5, 7)
    q, k, v = F.conv2d(x, mixer.qkv.weight, mixer.qkv.bias).chunk(3, dim=1)
    (lepe,) = mixer.lepe
    expected = mixer.proj(vertical_branch(q, k, v, lepe, 3, 7))
    torch.testing.assert_close(mixer(x, MapContext.of(x)), expected, atol=1e-5, rtol=1e-4)


def test_convolution_does_not_see_the_next_window():
    lepe = WindowLePE(4, (None, 2))
    x = torch.randn(1, 4, 5, 6)
    outs = [F.conv2d(w, lepe.weight, lepe.bias, padding=1, groups=4) for w in x.split(2, dim=-1)]
    torch.testing.assert_close(lepe(x), torch.cat(outs, dim=-1))
    # stripes of one column: the middle column of the kernel is all that counts
    lepe = WindowLePE(4, (None, 1))
    expected = F.conv2d(x, lepe.weight[..., 1:2], lepe.bias, padding=(1, 0), groups=4)
    torch.testing.assert_close(lepe(x), expected)


def test_core_is_attention_without_the_convolution():
    mixer = CrossShapedMixer(16, 4, 2)
    q, k, v = (torch.randn(2, 15, 4, 4) for _ in range(3))
    out = mixer.core(q, k, v, (3, 5)).unflatten(1, (3, 5))
    maps = [t.unflatten(1, (3, 5)) for t in (q, k, v)]
    for share, window in ((slice(0, 2), (None, 2)), (slice(2, 4), (2, None))):
        expected = map_window_attention(*(t[:, :, :, share] for t in maps), window)
        torch.testing.assert_close(out[:, :, :, share], expected)


def test_impossible_arguments():
    with pytest.raises(ValueError, match="num_heads must be even, got 3; stripe_width=None"):
        CrossShapedMixer(12, 3, 2)
    with pytest.raises(ValueError, match="stripe_width must be at least 1, or None, got 0"):
        CrossShapedMixer(12, 2, 0)
    with pytest.raises(ValueError, match="multiple of num_heads, got 10 and 4"):
        CrossShapedMixer(10, 4, 2)


def test_description_names_the_windows():
    assert "windows=((None, 7), (7, None))" in repr(CrossShapedMixer(8, 2, 7))


def test_any_stage_of_a_pyramid_from_a_config():
    stripes = {"type": "mmeffvit.CrossShapedMixer", "stripe_width": 3}
    arch = {
        "embed_dims": (8, 16, 16, 16),
        "depths": (1, 2, 1, 1),
        "num_heads": (2, 4, 2, 4),
        "mlp_ratios": (1, 1, 1, 1),
        "layer_scale": (None,) * 4,
        "mixers": [
            stripes,
            [stripes, {"type": "mmeffvit.SECMixer", "num_clusters": 2}],
            {"type": "mmeffvit.CrossShapedMixer"},
            stripes,
        ],
    }
    backbone = PyramidViT(arch)
    outs = backbone(torch.randn(2, 3, 45, 70))
    assert [out.shape[2:] for out in outs] == [(12, 18), (6, 9), (3, 5), (2, 3)]
    sum(out.square().mean() for out in outs).backward()
    assert all(p.grad is not None for p in backbone.parameters())
