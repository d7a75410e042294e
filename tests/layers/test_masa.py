import pytest
import torch

from mmeffvit.layers import MapContext, MaSAMixer
from mmeffvit.ops import apply_rotary, manhattan_attention, rotary_table_1d
from mmeffvit.ops.manhattan_attention import ManhattanDecay, decay_rates


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [(6, 10), (5, 7), (1, 9)])
def test_projections_attention_and_local_enhancement(size, channels_last, decomposed):
    """Rotation by the index of the pixel, rates of the heads, on maps that are not square."""
    mixer = MaSAMixer(12, 2, decay_init=1, decay_range=3, decomposed=decomposed)
    x = torch.randn(2, 12, *size)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    qkv = torch.nn.functional.conv2d(x, mixer.qkv.weight, mixer.qkv.bias)
    q, k, v = (t.flatten(2).transpose(1, 2).reshape(2, -1, 2, 6) for t in qkv.chunk(3, dim=1))
    table = rotary_table_1d(size[0] * size[1], 6)
    attended = manhattan_attention(
        apply_rotary(q, table),
        apply_rotary(k, table),
        v,
        ManhattanDecay(*size, decay_rates(2, 1, 3)),
        decomposed=decomposed,
        implementation="reference",
    )
    image = attended.flatten(2).transpose(1, 2).reshape(2, 12, *size)
    expected = mixer.proj(image + mixer.lepe(qkv[:, 24:]))
    torch.testing.assert_close(mixer(x, MapContext.of(x)), expected)


def test_blocks_of_a_stage_share_tables():
    context = MapContext(3, 4, torch.device("cpu"))
    first, second, other = (MaSAMixer(12, heads).positions(context) for heads in (2, 2, 3))
    assert second.decay is first.decay
    assert second.table is first.table
    assert other.decay is not first.decay
    assert (first.decay.height, first.decay.width) == (3, 4)
    assert torch.equal(first.table, rotary_table_1d(12, 6))


def test_impossible_arguments():
    with pytest.raises(ValueError, match="multiple of 2, got 9 / 3"):
        MaSAMixer(9, 3)
    with pytest.raises(ValueError, match="multiple of num_heads, got 10 and 4"):
        MaSAMixer(10, 4)
    with pytest.raises(ValueError, match="must be positive, got init=-1"):
        MaSAMixer(8, 2, decay_init=-1)


def test_description_names_what_differs():
    printed = repr(MaSAMixer(8, 2, 2, 6, True))
    assert "decay_range=6" in printed
    assert "decomposed=True" in printed
