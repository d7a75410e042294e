import pytest
import torch

from mmeffvit.layers import LocalConvMixer, MapContext
from mmeffvit.models import PyramidViT


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("size", [(5, 7), (1, 4), (2, 2)])
def test_equals_the_formula(size, kernel_size):
    """Values are zero beyond the map, also those of the bias."""
    mixer = LocalConvMixer(6, kernel_size=kernel_size).double()
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    values = torch.einsum("bchw,dc->bdhw", x, mixer.value.weight[..., 0, 0])
    values = values + mixer.value.bias[:, None, None]
    reach = kernel_size // 2
    read = torch.zeros_like(values)
    for y in range(size[0]):
        for z in range(size[1]):
            for dy in range(-reach, reach + 1):
                for dz in range(-reach, reach + 1):
                    if 0 <= y + dy < size[0] and 0 <= z + dz < size[1]:
                        weight = mixer.affinity.weight[:, 0, dy + reach, dz + reach]
                        read[:, :, y, z] += weight * values[:, :, y + dy, z + dz]
    read = read + mixer.affinity.bias[:, None, None]
    expected = torch.einsum("bchw,dc->bdhw", read, mixer.proj.weight[..., 0, 0])
    expected = expected + mixer.proj.bias[:, None, None]
    torch.testing.assert_close(mixer(x, MapContext.of(x)), expected)


def test_impossible_kernels():
    for size in (4, 0, -1):
        with pytest.raises(ValueError, match=f"must be odd and positive, got {size}"):
            LocalConvMixer(8, kernel_size=size)


def test_any_stage_of_a_pyramid_from_a_config():
    local = {"type": "mmeffvit.LocalConvMixer", "kernel_size": 3}
    windows = {"type": "mmeffvit.SoftmaxMixer", "window_size": 3, "project_edges": True}
    arch = {
        "embed_dims": (8, 12, 16, 16),
        "depths": (1, 2, 1, 1),
        # which the convolutional mixer does not need
        "num_heads": (3, 4, 2, 4),
        "mlp_ratios": (1, 1, 1, 1),
        "layer_scale": (None,) * 4,
        "mixers": [local, [windows, local], windows, {"type": "mmeffvit.SoftmaxMixer"}],
    }
    backbone = PyramidViT(arch)
    outs = backbone(torch.randn(2, 3, 45, 70))
    assert [out.shape[2:] for out in outs] == [(12, 18), (6, 9), (3, 5), (2, 3)]
    sum(out.square().mean() for out in outs).backward()
    assert all(p.grad is not None for p in backbone.parameters())
