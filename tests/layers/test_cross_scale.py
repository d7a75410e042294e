import pytest
import torch
import torch.nn.functional as F

from mmeffvit.layers import CrossScaleMixer, MapContext
from mmeffvit.layers.mixers import PositionBias
from mmeffvit.models import PyramidViT
from mmeffvit.ops import group_attention


def as_published(mixer, x, group, interval):
    """Square groups on a map that zeros fill up before the projection, all of them masked."""
    height, width = x.shape[2:]
    side = group * interval
    padded = F.pad(x, (0, -width % side, 0, -height % side))
    qkv = F.conv2d(padded, mixer.qkv.weight, mixer.qkv.bias)
    heads, dim = mixer.num_heads, mixer.head_dim

    def cut(t):
        t = t.unflatten(3, (-1, group, interval)).unflatten(2, (-1, group, interval))
        # (B, C, Ry, G, I, Rx, G, I) -> (B, Ry, Rx, I, I, G, G, C)
        return t.permute(0, 2, 5, 4, 7, 3, 6, 1).flatten(5, 6)

    q, k, v = (cut(t).unflatten(-1, (heads, dim)).transpose(-2, -3) for t in qkv.chunk(3, 1))
    places = torch.cartesian_prod(torch.arange(group), torch.arange(group))
    offsets = (places[:, None] - places).flatten(0, 1).float()
    bias = mixer.bias.of_offsets(offsets).view(group**2, group**2, heads).permute(2, 0, 1)
    real = cut(F.pad(torch.ones(1, 1, height, width), (0, -width % side, 0, -height % side)))
    mask = torch.where(real[..., 0] > 0, 0.0, -1e6)[..., None, None, :]
    out = ((q * dim**-0.5) @ k.transpose(-1, -2) + bias + mask).softmax(-1) @ v
    out = out.transpose(-2, -3).flatten(-2).unflatten(5, (group, group))
    out = out.permute(0, 7, 1, 5, 3, 2, 6, 4).flatten(5, 7).flatten(2, 4)
    return mixer.proj(out[:, :, :height, :width])


@pytest.mark.parametrize(
    ("size", "interval", "used"),
    [
        ((7, 8), None, 1),
        ((7, 8), 2, 2),
        ((13, 5), 2, 2),
        ((12, 6), 2, 2),
        # rounded up, by the longer side
        ((7, 8), "adaptive", 3),
        ((4, 19), "adaptive", 7),
        ((19, 4), "adaptive", 7),
    ],
)
def test_equals_padded_and_masked_groups(size, interval, used):
    mixer = CrossScaleMixer(32, 2, group_size=3, interval=interval)
    x = torch.randn(2, 32, *size)
    with torch.no_grad():
        for parameter in mixer.bias.parameters():  # so that the bias matters
            parameter.normal_()
        expected = as_published(mixer, x, 3, used)
        torch.testing.assert_close(mixer(x, MapContext.of(x)), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("interval", [None, 2, "adaptive"])
@pytest.mark.parametrize("size", [(3, 3), (3, 8), (8, 3), (1, 6), (2, 2)])
def test_a_map_not_longer_than_a_group_is_one_group(size, interval):
    """The authors pad it to a square; here it is attention of the tokens that are there."""
    mixer = CrossScaleMixer(32, 2, group_size=3, interval=interval)
    x = torch.randn(2, 32, *size)
    with torch.no_grad():
        expected = as_published(mixer, x, max(size), 1)
        torch.testing.assert_close(mixer(x, MapContext.of(x)), expected, atol=1e-5, rtol=1e-4)


def test_a_small_map_changes_nothing_for_the_next_one():
    mixer = CrossScaleMixer(32, 2, group_size=3, interval=2)
    x = torch.randn(1, 32, 7, 8)
    before = mixer(x, MapContext.of(x))
    small = torch.randn(1, 32, 2, 9)
    mixer(small, MapContext.of(small))
    assert torch.equal(mixer(x, MapContext.of(x)), before)


def test_position_bias_by_offset():
    bias = PositionBias(num_heads=3, hidden_dims=4)
    context = MapContext(5, 6, torch.device("cpu"))
    table = bias((2, 3), context)
    assert table.shape == (3, 2, 3, 2, 3)
    for y, x, v, u in ((0, 0, 0, 0), (1, 2, 0, 0), (0, 1, 1, 2)):
        expected = bias.of_offsets(torch.tensor([[y - v, x - u]]))[0]
        torch.testing.assert_close(table[:, y, x, v, u], expected)
    # what depends on the group alone is made once for a stage
    count = len(context._structures)
    PositionBias(3, 4)((2, 3), context)
    assert len(context._structures) == count
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(bias((2, 3), context), table)


def test_the_core_is_the_operator():
    mixer = CrossScaleMixer(32, 2, 3, 2)
    context = MapContext(7, 5, torch.device("cpu"))
    q, k, v = (torch.randn(2, 35, 2, 16) for _ in range(3))
    size, bias, interval = mixer.positions(context)
    maps = [t.unflatten(1, size) for t in (q, k, v)]
    expected = group_attention(*maps, bias, interval, implementation="reference")
    out = mixer.core(q, k, v, (size, bias, interval))
    torch.testing.assert_close(out, expected.flatten(1, 2), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(7, 7), (2, 9)])
def test_autocast_without_nan(dtype, size):
    mixer = CrossScaleMixer(32, 2, group_size=3, interval=2)
    x = torch.randn(2, 32, *size, requires_grad=True)
    expected = mixer(x, MapContext.of(x))
    with torch.autocast("cpu", dtype=dtype):
        out = mixer(x, MapContext.of(x))
    assert (out.float() - expected).abs().mean() < 2e-2 * expected.abs().mean()
    out.float().square().sum().backward()
    grads = [x.grad, *(p.grad for p in mixer.parameters())]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("stage", range(4))
def test_any_stage_of_a_pyramid_from_a_config(stage):
    mixers = [{"type": "mmeffvit.SoftmaxMixer"}] * 4
    mixers[stage] = [
        {"type": "mmeffvit.CrossScaleMixer", "group_size": 2, "interval": interval}
        for interval in (None, 2)
    ]
    network = PyramidViT(
        {
            "embed_dims": (8, 8, 16, 16),
            "depths": tuple(1 + (i == stage) for i in range(4)),
            "num_heads": (2, 2, 2, 2),
            "mlp_ratios": (1, 1, 1, 1),
            "layer_scale": (None,) * 4,
            "mixers": mixers,
        }
    )
    outs = network(torch.randn(2, 3, 50, 37))
    assert [tuple(out.shape[2:]) for out in outs] == [(13, 10), (7, 5), (4, 3), (2, 2)]
    sum(out.square().sum() for out in outs).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_impossible_arguments():
    with pytest.raises(ValueError, match="multiple of num_heads, got 10 and 4"):
        CrossScaleMixer(10, 4)
    with pytest.raises(ValueError, match="group_size must be at least 1, got 0"):
        CrossScaleMixer(16, 2, 0)
    for wrong in (0, "all", 1.5):
        with pytest.raises(ValueError, match="interval must be None, 'adaptive' or a number"):
            CrossScaleMixer(16, 2, 7, wrong)


def test_description_names_what_differs():
    assert "group_size=7, interval='adaptive'" in repr(CrossScaleMixer(16, 2, 7, "adaptive"))
