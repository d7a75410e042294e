import pytest
import torch

from mmeffvit.layers import GaussianMixtureMixer, MapContext, URPEMixer
from mmeffvit.visualization.attention import MixerCall, make_rows, offset_maps


def call_of(mixer, size):
    torch.manual_seed(0)
    x = torch.randn(1, mixer.embed_dims, *size)
    with torch.no_grad():
        tokens = mixer.qkv(x)
    return MixerCall(0, 0, 1, 4, mixer, x, MapContext.of(x), tokens)


def test_gain_of_every_token():
    mixer = GaussianMixtureMixer(8, 2)
    call = call_of(mixer, (5, 6))
    gain = offset_maps(call, (4, 1), "gain")
    distance = (torch.arange(5) - 4)[:, None] ** 2 + (torch.arange(6) - 1) ** 2
    spread = mixer.tables.sigma.detach().square() + 1e-5
    mixture = mixer.tables.alpha.detach() * (-distance[..., None, None] / 2 / spread).exp()
    torch.testing.assert_close(gain, mixture.sum(2).permute(2, 0, 1), atol=1e-5, rtol=1e-4)
    assert offset_maps(call, (4, 1), "factor") is None
    gains, attention = make_rows(call, (4, 1), [1])
    assert torch.equal(gains.maps[0].values, gain[1])
    assert attention.maps[0].values.sum().item() == pytest.approx(30, rel=1e-4)


def test_tables_inside_the_window_of_the_token():
    mixer = URPEMixer(8, 2, 3)
    torch.nn.init.normal_(mixer.tables.factor.table)
    call = call_of(mixer, (5, 7))
    factor = offset_maps(call, (4, 5), "factor")
    # of the last window's rows, two are on the map
    assert (~factor[0].isnan()).nonzero().tolist() == [[y, x] for y in (3, 4) for x in (3, 4, 5)]
    table = mixer.tables.factor.table[0].T.detach().unflatten(1, (5, 5))
    torch.testing.assert_close(factor[:, 3, 4], table[:, 1, 1])
    biases, factors, attention = make_rows(call, (4, 5))
    assert "added" in biases.note
    assert "after the softmax" in factors.note
    assert torch.equal(attention.maps[0].values != 0, ~factor[0].isnan())
