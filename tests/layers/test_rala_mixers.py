import pytest
import torch

from mmeffvit.layers import GatedSoftmaxMixer, MapContext, RALAMixer
from mmeffvit.ops import (
    rank_augmented_linear_attention,
    rotary_softmax_attention,
    rotary_table_2d,
)

MIXERS = {RALAMixer: rank_augmented_linear_attention, GatedSoftmaxMixer: rotary_softmax_attention}


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("size", [(6, 10), (5, 7), (1, 9)])
@pytest.mark.parametrize("mixer_type", MIXERS)
def test_projections_attention_local_enhancement_and_gate(mixer_type, size, channels_last):
    """Against the sheet's order of channels: q, k, v, gate; the gate multiplies both terms."""
    mixer = mixer_type(16, 2)
    x = torch.randn(2, 16, *size)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    projected = torch.nn.functional.conv2d(x, mixer.qkv.weight, mixer.qkv.bias)
    q, k, v, _ = (
        t.flatten(2).transpose(1, 2).reshape(2, -1, 2, 8) for t in projected.chunk(4, dim=1)
    )
    attended = MIXERS[mixer_type](q, k, v, rotary_table_2d(*size, 8), implementation="reference")
    image = attended.flatten(2).transpose(1, 2).reshape(2, 16, *size)
    gated = (image + mixer.lepe(projected[:, 32:48])) * projected[:, 48:]
    torch.testing.assert_close(mixer(x, MapContext.of(x)), mixer.proj(gated))


@pytest.mark.parametrize("mixer_type", MIXERS)
def test_implementation_is_passed_on(mixer_type):
    x = torch.randn(1, 8, 3, 3)
    with pytest.raises(ValueError, match="the argument asks for implementation 'quick'"):
        mixer_type(8, 1, implementation="quick")(x, MapContext.of(x))


@pytest.mark.parametrize("mixer_type", MIXERS)
def test_impossible_sizes(mixer_type):
    with pytest.raises(ValueError, match="multiple of num_heads, got 10 and 4"):
        mixer_type(10, 4)
    with pytest.raises(ValueError, match=rf"{mixer_type.__name__} .*multiple of 4, got 12 / 2"):
        mixer_type(12, 2)
