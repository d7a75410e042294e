import pytest
import torch

from mmeffvit.layers import MapContext, NeighbourhoodMixer
from mmeffvit.visualization.attention import MixerCall, bias_maps, make_rows


def call_of(size, kernel_size, dilation):
    torch.manual_seed(0)
    mixer = NeighbourhoodMixer(8, 2, kernel_size, dilation)
    torch.nn.init.normal_(mixer.core.rpb)
    x = torch.randn(1, 8, *size)
    with torch.no_grad():
        tokens = mixer.qkv(x)
    return MixerCall(0, 0, 1, 4, mixer, x, MapContext.of(x), tokens)


def test_bias_of_every_neighbour():
    call = call_of((7, 9), 3, 2)
    maps = bias_maps(call, (3, 0))
    read = (~maps[0].isnan()).nonzero().tolist()
    # rows 1, 3, 5 around the token; columns 0, 2, 4, shifted into the map
    assert read == [[y, x] for y in (1, 3, 5) for x in (0, 2, 4)]
    bias = call.mixer.core.rpb.detach()
    torch.testing.assert_close(maps[1, 1, 0], bias[1, 1, 2].exp())
    torch.testing.assert_close(maps[1, 5, 4], bias[1, 3, 4].exp())


@pytest.mark.parametrize(("size", "beyond"), [((9, 9), False), ((9, 4), True)])
def test_rows(size, beyond):
    call = call_of(size, 3, 3)
    neighbours, attention = make_rows(call, (4, 1))
    assert "3×3 tokens, 3 apart" in neighbours.note
    assert ("beyond the map" in attention.note) == beyond
    weights = attention.maps[0].values / call.context.num_tokens
    seen = ~neighbours.maps[0].values.isnan()
    assert torch.equal(weights > 0, seen)
    assert (weights.sum().item() == pytest.approx(1)) != beyond
