import pytest
import torch
import torch.nn.functional as F

from mmeffvit.layers import FactorizationMixer, MapContext
from mmeffvit.models import PyramidViT
from mmeffvit.ops import dilated_summaries


def attention(q, k, v):
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v


def depthwise(x, conv):
    return F.conv2d(x, conv.weight, conv.bias, padding=1, groups=len(conv.weight))


def literal(mixer, x, reduction, side):
    """The formulas of the mixer, on tokens."""
    batch, _, height, width = x.shape
    heads, c = mixer.num_heads, mixer.global_dim
    q = F.conv2d(x, mixer.q.weight, mixer.q.bias).flatten(2).transpose(1, 2)
    reduced = mixer.reduced
    small = F.conv2d(x[:, :c], reduced.reduce.weight, reduced.reduce.bias, stride=reduction)
    tokens = F.layer_norm(small.permute(0, 2, 3, 1), (c,), reduced.norm.weight, reduced.norm.bias)
    kv = tokens @ reduced.kv.weight[..., 0, 0].T + reduced.kv.bias
    k, v = kv.permute(0, 3, 1, 2).split(c, dim=1)
    v = v + depthwise(v, reduced.enhance)
    outs = [attention(q[..., :c], k.flatten(2).mT, v.flatten(2).mT)]
    local = depthwise(x[:, c:], mixer.depth)
    local = F.conv2d(local, mixer.point.weight, mixer.point.bias)
    of_heads = q[..., c:].unflatten(-1, (heads, -1)).transpose(1, 2)
    first = 0
    for j, keys in enumerate(mixer.summaries):
        dim = keys.fc.in_features
        part = local[:, j * heads * dim : (j + 1) * heads * dim]
        z = dilated_summaries(part, heads, side, (1, reduction)[j], implementation="reference")
        k, v = keys.kv(keys.fc(z)).split(dim, dim=-1)
        maps = v.transpose(2, 3).reshape(batch, heads * dim, side, side)
        maps = maps + depthwise(maps, keys.enhance)
        v = maps.view(batch, heads, dim, side * side).transpose(2, 3)
        out = attention(of_heads[..., first : first + dim], k, v)
        outs.append(out.transpose(1, 2).flatten(2))
        first += dim
    out = torch.cat(outs, dim=-1).transpose(1, 2).unflatten(2, (height, width))
    return F.conv2d(out, mixer.proj.weight, mixer.proj.bias)


@pytest.mark.parametrize("size", [(9, 14), (5, 3), (33, 20)])
@pytest.mark.parametrize(("reduction", "side"), [(1, 7), (2, 7), (3, 3)])
def test_equals_the_formulas(size, reduction, side):
    mixer = FactorizationMixer(32, 2, reduction, side).double()
    x = torch.randn(2, 32, *size, dtype=torch.float64, requires_grad=True)
    actual, expected = mixer(x, MapContext.of(x)), literal(mixer, x, reduction, side)
    torch.testing.assert_close(actual, expected)
    inputs = [x, *mixer.parameters()]
    grads = [torch.autograd.grad(out.square().sum(), inputs) for out in (actual, expected)]
    for found, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("reduction", "global_dim", "parts"), [(8, 8, [28, 28]), (1, 8, [56])])
def test_how_channels_are_split(reduction, global_dim, parts):
    mixer = FactorizationMixer(64, 2, reduction)
    assert mixer.global_dim == global_dim
    assert [keys.enhance.in_channels for keys in mixer.summaries] == parts
    assert [keys.dilation for keys in mixer.summaries] == [1, reduction][: len(parts)]


def test_a_map_smaller_than_what_is_reduced():
    """The authors' code fails here; zeros fill it up."""
    mixer = FactorizationMixer(16, 1, reduction=8)
    x = torch.randn(1, 16, 2, 5)
    k, v = mixer.reduced(x[:, :2])
    assert k.shape == v.shape == (1, 1, 1, 2)
    small = F.pad(x[:, :2], (0, 3, 0, 6))
    torch.testing.assert_close(mixer.reduced(small)[0], k)
    assert mixer(x, MapContext.of(x)).shape == x.shape


def test_impossible_arguments():
    with pytest.raises(
        ValueError, match=r"2 : 7 : 7: embed_dims must be a multiple of 16.* got 24"
    ):
        FactorizationMixer(24, 1, 2)
    with pytest.raises(ValueError, match=r"1 : 7: .* its 7/8 of num_heads; got 16 and 4"):
        FactorizationMixer(16, 4)
    with pytest.raises(ValueError, match="must be positive, got 0 and 7"):
        FactorizationMixer(16, 1, 0)


def test_any_stage_of_a_pyramid_from_a_config():
    plain = {"type": "mmeffvit.FactorizationMixer", "window_size": 3}
    reduced = {**plain, "reduction": 4}
    arch = {
        "embed_dims": (16, 32, 16, 32),
        "depths": (1, 2, 1, 1),
        "num_heads": (1, 2, 7, 2),
        "mlp_ratios": (1, 1, 1, 1),
        "layer_scale": (None,) * 4,
        "mixers": [reduced, [plain, reduced], reduced, reduced],
    }
    backbone = PyramidViT(arch)
    outs = backbone(torch.randn(2, 3, 45, 70))
    assert [out.shape[2:] for out in outs] == [(12, 18), (6, 9), (3, 5), (2, 3)]
    sum(out.square().mean() for out in outs).backward()
    assert all(p.grad is not None for p in backbone.parameters())
