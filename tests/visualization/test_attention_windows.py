import pytest
import torch

from mmeffvit.layers import LocalConvMixer, MapContext, SoftmaxMixer
from mmeffvit.visualization.attention import MixerCall, affinity_map, make_rows


def call_of(mixer, size):
    torch.manual_seed(0)
    x = torch.randn(1, mixer.embed_dims, *size)
    with torch.no_grad():
        tokens = mixer.qkv(x) if hasattr(mixer, "qkv") else None
    return MixerCall(0, 0, 1, 4, mixer, x, MapContext.of(x), tokens)


def test_learnt_neighbourhood_at_a_corner():
    mixer = LocalConvMixer(4, kernel_size=3)
    call = call_of(mixer, (4, 5))
    weights = affinity_map(call, (3, 0))
    assert (~weights.isnan()).nonzero().tolist() == [[2, 0], [2, 1], [3, 0], [3, 1]]
    expected = mixer.affinity.weight.detach().abs().mean((0, 1))
    torch.testing.assert_close(weights[3, 0], expected[1, 1])
    torch.testing.assert_close(weights[2, 1], expected[0, 2])
    (row,) = make_rows(call, (3, 0))
    assert "3×3 tokens" in row.note


@pytest.mark.parametrize(("size", "beyond"), [((6, 9), False), ((5, 8), True)])
def test_window_of_the_marked_token(size, beyond):
    call = call_of(SoftmaxMixer(8, 2, 3, project_edges=True), size)
    window, attention = make_rows(call, (4, 7))
    own = ~window.maps[0].values.isnan()
    assert own.nonzero()[0].tolist() == [3, 6]
    assert own.sum() == (4 if beyond else 9)
    assert torch.equal(attention.maps[0].values > 0, own)
    assert ("beyond the map" in attention.note) == beyond


def test_without_windows_all_heads_see_the_map():
    (row,) = make_rows(call_of(SoftmaxMixer(8, 2), (3, 4)), (1, 1))
    assert len(row.maps) == 2
    assert row.maps[0].values.min() > 0
