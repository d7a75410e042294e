import pytest
import torch

from mmeffvit.layers import MapContext, S3AMixer
from mmeffvit.ops import apply_rotary, rotary_table_2d, sparse_scan_attention


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", [(14, 17), (5, 7), (1, 9)])
def test_projections_attention_and_local_enhancement(size, reverse):
    """Against the sheet's order of channels, on maps that are not square."""
    mixer = S3AMixer(16, 2, window_size=4, reverse=reverse)
    x = torch.randn(2, 16, *size).contiguous(memory_format=torch.channels_last)
    qkv = torch.nn.functional.conv2d(x, mixer.qkv.weight, mixer.qkv.bias)
    q, k, v = (t.flatten(2).transpose(1, 2).reshape(2, -1, 2, 8) for t in qkv.chunk(3, dim=1))
    table = rotary_table_2d(*size, 8)
    q, k = apply_rotary(q, table), apply_rotary(k, table)
    attended = sparse_scan_attention(
        *(t.unflatten(1, size) for t in (q, k, v)), 4, reverse, implementation="reference"
    )
    expected = mixer.proj(attended.flatten(3).permute(0, 3, 1, 2) + mixer.lepe(qkv[:, 32:]))
    torch.testing.assert_close(mixer(x, MapContext.of(x)), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_with_gradients(dtype):
    mixer = S3AMixer(32, 2, window_size=3)
    x = torch.randn(2, 32, 13, 18)
    weight = torch.randn(2, 32, 13, 18)
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            out = mixer(x, MapContext.of(x))
        results.append((out, *torch.autograd.grad((out * weight).sum(), mixer.parameters())))
    for expected, actual in zip(*results):
        assert actual.isfinite().all()
        difference = (actual.float() - expected).abs().mean() / expected.abs().mean()
        assert difference < 0.05


def test_impossible_sizes():
    with pytest.raises(ValueError, match="multiple of 4, got 12 / 2"):
        S3AMixer(12, 2)
    with pytest.raises(ValueError, match="window_size must be at least 1, got 0"):
        S3AMixer(8, 1, window_size=0)
    with pytest.raises(ValueError, match="positive odd number or None, got 6"):
        S3AMixer(8, 1, max_kernel=6)
