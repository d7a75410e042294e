import pytest
import torch

from mmeffvit.layers import FactorizationMixer, LocalConvMixer, MapContext, SoftmaxMixer
from mmeffvit.visualization.attention import MixerCall, affinity_map, make_rows, point_map


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


def test_tokens_of_one_summary():
    numbers = point_map((3, 8), 2, 2)
    expected = torch.full((3, 8), torch.nan)
    for column, number in ((0, 0), (3, 0), (6, 0), (2, 1), (5, 1)):
        expected[0, column], expected[2, column] = number, number + 2
    torch.testing.assert_close(numbers, expected, equal_nan=True)
    summaries, influence = make_rows(call_of(FactorizationMixer(16, 1, 2, 2), (6, 8)), (4, 7))
    assert "2×2 summaries" in summaries.note
    assert [map_.title.partition(":")[0] for map_ in summaries.maps] == ["1 apart", "2 apart"]
    assert influence.maps[0].values.min() > 0
