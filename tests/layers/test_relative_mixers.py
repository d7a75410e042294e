"""Gaussian mixture masks and URPE as token mixers."""

from pathlib import Path

import pytest
import torch

from mmeffvit.checkpoint import load_weights
from mmeffvit.layers import GaussianMixtureMixer, MapContext, URPEMixer
from mmeffvit.layers.offset_tables import GaussianMixtureGain, URPETables
from mmeffvit.models import PyramidViT
from mmeffvit.testing import TOLERANCES, check_golden

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def test_gaussian_mixtures_equal_the_authors_numbers():
    errors = check_golden(GOLDEN / "gmm_attention.npz")
    assert {"op/base_mask/out", "op/gmm_mask/out", "op/gmm_attn/out", "out/logits"} < {*errors}
    assert max(errors.values()) < 5e-6 < TOLERANCES["gmm"]


def test_urpe_equals_its_golden_numbers():
    errors = check_golden(GOLDEN / "urpe.npz")
    assert errors["op/urpe_attn/mid/index"] == 0
    assert errors["op/urpe_attn/mid/attn"] < 1e-6
    assert errors["op/urpe_attn/out"] < 5e-6 < TOLERANCES["urpe"]


@pytest.mark.parametrize("truncate", [False, True])
def test_mixture_of_gaussians_by_hand(truncate):
    gain = GaussianMixtureGain(2, 3, truncate).double()
    table = gain.of_window((12, 2))
    assert table.shape == (2, 23, 3)
    for row, column in ((11, 1), (13, 0), (22, 2), (0, 1)):
        distance = (row - 11) ** 2 + (column - 1) ** 2
        expected = (gain.alpha * (-distance / 2 / (gain.sigma.square() + 1e-5)).exp()).sum(0)
        if truncate and distance >= 104:
            expected = torch.zeros_like(expected)
        torch.testing.assert_close(table[:, row, column], expected)
    grads = torch.autograd.grad(table.square().sum(), list(gain.parameters()))
    assert all(g.isfinite().all() and g.abs().min() > 0 for g in grads)


def test_gains_start_with_one_at_the_token_itself():
    gain = GaussianMixtureGain(3, 4, init="unit").of_window((5, 5))
    torch.testing.assert_close(gain[:, 4, 4], torch.ones(3))
    assert (gain <= 1 + 1e-6).all()
    assert gain[:, 0, 0].max() < 1
    published = GaussianMixtureGain(64, 5)
    assert 8 < published.sigma.mean() < 12
    assert 1.5 < published.alpha.std() < 2.5


def test_two_numbers_for_each_kernel_and_head():
    count = sum(p.numel() for p in GaussianMixtureGain(12, 5).parameters())
    assert count == 120  # per layer of the authors' ViT, which has 12 heads
    assert sum(p.numel() for p in URPETables(3, (7, 7)).parameters()) == 2 * 169 * 3


def test_without_its_tables_it_is_softmax_attention():
    x = torch.randn(2, 8, 4, 6)
    urpe = URPEMixer(8, 2, 3)
    torch.nn.init.zeros_(urpe.tables.bias.table)
    gmm = GaussianMixtureMixer(8, 2, 3)
    with torch.no_grad():
        gmm.tables.sigma.fill_(1e4)
        gmm.tables.alpha.fill_(1 / 5)
    for name in ("qkv", "proj"):
        getattr(gmm, name).load_state_dict(getattr(urpe, name).state_dict())
    torch.testing.assert_close(urpe(x, MapContext.of(x)), gmm(x, MapContext.of(x)))
    # constant factors are a constant
    with torch.no_grad():
        urpe.tables.factor.table.fill_(2)
        twice = urpe(x, MapContext.of(x)) - urpe.proj.bias[:, None, None]
        once = gmm(x, MapContext.of(x)) - gmm.proj.bias[:, None, None]
    torch.testing.assert_close(twice, 2 * once)


def test_factors_say_where_a_token_is_whatever_it_holds():
    x = torch.ones(1, 8, 4, 5)
    mixer = URPEMixer(8, 2, None, grid_size=(4, 5))
    assert mixer(x, MapContext.of(x)).flatten(2).std(2).max() < 1e-6
    torch.nn.init.normal_(mixer.tables.factor.table)
    assert mixer(x, MapContext.of(x)).flatten(2).std(2).min() > 1e-3


def test_tables_are_resized_to_the_map():
    tables = URPETables(2, (3, 4))
    bias, factor = tables.of_window((6, 5))
    assert bias.shape == factor.shape == (2, 11, 9)
    torch.testing.assert_close(factor, torch.ones_like(factor))
    own = tables.of_window((3, 4))[0]
    # the offset zero stays the middle
    torch.testing.assert_close(bias[:, 5, 4], own[:, 2, 3], atol=2e-2, rtol=0)
    assert torch.equal(own, tables.bias.table[0].T.unflatten(1, (5, 7)))


def pyramid(*mixers):
    arch = {
        "embed_dims": (8, 8, 8, 8),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 2, 2, 2),
        "mlp_ratios": (1, 1, 1, 1),
        "layer_scale": (None,) * 4,
        "mixers": [{**mixer, "type": f"mmeffvit.{mixer['type']}"} for mixer in mixers],
    }
    return PyramidViT(arch)


def test_tables_are_resized_when_weights_of_another_window_are_loaded():
    small, large = (pyramid(*[{"type": "URPEMixer", "window_size": n}] * 4) for n in (3, 5))
    report = load_weights(large, small.state_dict())
    assert len(report.adapted) == 8
    name = "stages.1.blocks.0.mixer.tables"
    loaded, given = (network.get_submodule(name).of_window((5, 5)) for network in (large, small))
    for actual, expected in zip(loaded, given, strict=True):
        torch.testing.assert_close(actual, expected)


def test_a_pyramid_of_all_options_trains():
    torch.manual_seed(0)
    network = pyramid(
        {"type": "URPEMixer", "window_size": 5},
        {"type": "GroupLatentMixer", "group_size": 4, "num_latents": 2},
        {"type": "GaussianMixtureMixer", "init": "unit"},
        {"type": "URPEMixer", "window_size": None, "grid_size": (2, 3)},
    )
    images = torch.randn(2, 3, 32, 40)
    with torch.no_grad():
        targets = [torch.randn_like(out) for out in network(images)]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = sum((out - t).square().mean() for out, t in zip(network(images), targets))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    for name in ("tables.sigma", "tables.factor.table", "tables.bias.table", "latents"):
        found = [p.grad for key, p in network.named_parameters() if key.endswith(f"mixer.{name}")]
        assert found, name
        assert all(grad.abs().max() > 0 for grad in found)


def test_impossible():
    with pytest.raises(ValueError, match="window_size must be at least 1 or None, got 0"):
        GaussianMixtureMixer(8, 2, 0)
    with pytest.raises(ValueError, match="num_kernels must be at least 1, got 0"):
        GaussianMixtureMixer(8, 2, num_kernels=0)
    with pytest.raises(ValueError, match="init must be 'published' or 'unit', got 'ones'"):
        GaussianMixtureMixer(8, 2, init="ones")
    with pytest.raises(ValueError, match="must be positive, got"):
        URPEMixer(8, 2, None, grid_size=(0, 4))
