import pytest
import torch
import torch.nn.functional as F

from mmeffvit.layers import MapContext, PolylineMixer
from mmeffvit.layers.mixers import PathSteps
from mmeffvit.models import PyramidViT
from mmeffvit.ops import apply_rotary, polyline_attention, rotary_table_1d


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [(6, 10), (5, 7), (1, 9)])
def test_projections_steps_attention_and_local_enhancement(size, channels_last, decomposed):
    """Rotation by y * W + x, steps from the input and not from q, k or v, on oblong maps."""
    mixer = PolylineMixer(12, 2, decomposed=decomposed)
    x = torch.randn(2, 12, *size)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    qkv = F.conv2d(x, mixer.qkv.weight, mixer.qkv.bias)
    q, k, v = (t.flatten(2).transpose(1, 2).reshape(2, -1, 2, 6) for t in qkv.chunk(3, dim=1))
    table = rotary_table_1d(size[0] * size[1], 6)
    rates, weight = mixer.steps.log_rate.exp(), mixer.steps.linear.weight
    steps = torch.empty(2, *size, 2, 2)
    for head in range(2):
        channels = x[:, 6 * head : 6 * head + 6].permute(0, 2, 3, 1)
        for axis in range(2):
            slope = F.softplus(channels @ weight[axis] + mixer.steps.bias[head])
            steps[:, :, :, head, axis] = -slope * rates[head]
    attended = polyline_attention(
        apply_rotary(q, table),
        apply_rotary(k, table),
        v,
        steps,
        decomposed=decomposed,
        implementation="reference",
    )
    image = attended.flatten(2).transpose(1, 2).reshape(2, 12, *size)
    expected = mixer.proj(image + mixer.lepe(qkv[:, 24:]))
    torch.testing.assert_close(mixer(x, MapContext.of(x)), expected, atol=1e-6, rtol=1e-5)


def test_initial_steps():
    """Rates are in [1, 1.1], and softplus of the bias is spread over [0.001, 0.1] by its log."""
    torch.manual_seed(0)
    steps = PathSteps(4000, 4)
    rates, first = steps.log_rate.exp(), F.softplus(steps.bias)
    assert 1 <= rates.min() < 1.001
    assert 1.099 < rates.max() <= 1.1 + 1e-6
    assert 0.99e-3 < first.min() < 1.01e-3
    assert 0.099 < first.max() < 0.101
    assert first.log10().mean().item() == pytest.approx(-2, abs=0.03)
    assert PathSteps(2, 20000).linear.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_steps_are_negative_and_exact_under_autocast():
    steps = PathSteps(2, 8)
    x = torch.randn(1, 16, 3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = steps(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, steps(x))
    assert found.max() < 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("decomposed", [False, True])
def test_autocast(dtype, decomposed):
    mixer = PolylineMixer(16, 2, decomposed=decomposed)
    x = torch.randn(2, 16, 5, 9, requires_grad=True)
    expected = mixer(x, MapContext.of(x))
    with torch.autocast("cpu", dtype=dtype):
        out = mixer(x, MapContext.of(x))
    assert out.dtype == dtype
    assert (out.float() - expected).abs().mean() < 2e-2 * expected.abs().mean()
    out.float().square().sum().backward()
    grads = [x.grad, *(p.grad for p in mixer.parameters())]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("stage", range(4))
def test_any_stage_of_a_pyramid_from_a_config(stage):
    mixers = [{"type": "mmeffvit.SoftmaxMixer"}] * 4
    mixers[stage] = [
        {"type": "mmeffvit.PolylineMixer", "decomposed": decomposed} for decomposed in (True, False)
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
    with pytest.raises(ValueError, match="multiple of 2, got 9 / 3"):
        PolylineMixer(9, 3)
    with pytest.raises(ValueError, match="multiple of num_heads, got 10 and 4"):
        PolylineMixer(10, 4)


def test_description_names_what_differs():
    assert "decomposed=True" in repr(PolylineMixer(8, 2, True))
