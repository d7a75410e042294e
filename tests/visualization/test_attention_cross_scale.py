import pytest
import torch

from mmeffvit.layers import CrossScaleMixer, MapContext
from mmeffvit.visualization.attention import MixerCall, group_map, make_rows

SIZE, TOKEN = (9, 14), (2, 11)


def make_call(interval):
    torch.manual_seed(0)
    mixer = CrossScaleMixer(32, 2, group_size=3, interval=interval)
    x = torch.randn(1, 32, *SIZE)
    tokens = torch.randn(3, 1, SIZE[0] * SIZE[1], 2, 16).unbind()
    return MixerCall(0, 0, 1, 4, mixer, x, MapContext.of(x), tokens)


@pytest.mark.parametrize("interval", [None, 2, "adaptive"])
def test_groups_are_those_that_attention_stays_in(interval):
    call = make_call(interval)
    numbers = group_map(call)
    weights = call.attention_of(TOKEN)
    for attention in weights:
        assert torch.equal(attention > 0, numbers == numbers[TOKEN])
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(2))
    groups, _ = make_rows(call, TOKEN)
    assert torch.equal(torch.isfinite(groups.maps[0].values), weights[0] > 0)
    assert groups.maps[0].title == f"head 0: {int((weights[0] > 0).sum())} tokens"


def test_factors_are_those_of_the_bias():
    call = make_call(2)
    groups, _ = make_rows(call, TOKEN)
    # places of the query and of a key, one region to the right of the first
    (size, bias, interval) = call.mixer.positions(call.context)
    assert (size, interval) == (SIZE, 2)
    query, key = (1, 2), (0, 1)
    expected = bias[1][query][key].exp()
    assert groups.maps[1].values[0, 9].item() == pytest.approx(expected.item())
