import pytest
import torch
import torch.nn.functional as F

from mmeffvit.layers import MapContext, NeighbourhoodMixer
from mmeffvit.models import PyramidViT
from mmeffvit.ops import neighbourhood_attention


def padded_before_projection(mixer, x, dilations):
    """The authors' order: fill up with zeros, project everything, attend, crop."""
    height, width = x.shape[-2:]
    core = mixer.core
    bottom, right = (
        max(0, core.kernel_size * dilation - side)
        for side, dilation in zip(x.shape[-2:], dilations)
    )
    x = F.pad(x, (0, right, 0, bottom)).permute(0, 2, 3, 1)
    qkv = F.linear(x, mixer.qkv.weight[:, :, 0, 0], mixer.qkv.bias)
    q, k, v = qkv.unflatten(-1, (3, mixer.num_heads, mixer.head_dim)).unbind(3)
    out = neighbourhood_attention(
        q, k, v, core.kernel_size, dilations, bias=core.rpb, implementation="reference"
    )
    out = out.flatten(3)[:, :height, :width]
    return F.linear(out, mixer.proj.weight[:, :, 0, 0], mixer.proj.bias).permute(0, 3, 1, 2)


# no padding, at the bottom, on the right, on both with the map smaller than a dilation
CASES = [((9, 12), 3, 2), ((4, 13), 3, 3), ((11, 3), 5, 2), ((3, 2), 3, 4), ((1, 1), 7, 1)]


@pytest.mark.parametrize("implementation", ["reference", "fused"])
@pytest.mark.parametrize(("size", "kernel_size", "dilation"), CASES)
def test_equals_padding_before_the_projection(size, kernel_size, dilation, implementation):
    mixer = NeighbourhoodMixer(12, 3, kernel_size, dilation, implementation=implementation)
    torch.nn.init.normal_(mixer.qkv.bias)
    x = torch.randn(2, 12, *size, requires_grad=True)
    weight = torch.randn(2, 12, *size)
    outs = (
        mixer(x, MapContext.of(x)),
        padded_before_projection(mixer, x, (dilation, dilation)),
    )
    torch.testing.assert_close(*outs)
    leaves = [x, *mixer.parameters()]
    for actual, expected in zip(*(torch.autograd.grad((o * weight).sum(), leaves) for o in outs)):
        torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-4)


def test_dilation_that_fits():
    """Cut on the axis that is too short for it, and not below one."""
    mixer = NeighbourhoodMixer(8, 2, 3, dilation=4, fit_dilation=True)
    assert mixer.core.dilations((12, 11)) == (4, 3)
    assert mixer.core.dilations((40, 2)) == (4, 1)
    x = torch.randn(1, 8, 7, 2)
    expected = padded_before_projection(mixer, x, (2, 1))
    torch.testing.assert_close(mixer(x, MapContext.of(x)), expected)


def test_in_any_stage_or_block_of_a_pyramid():
    def mixer(dilation):
        return {"type": "mmeffvit.NeighbourhoodMixer", "kernel_size": 3, "dilation": dilation}

    network = PyramidViT(
        arch={
            "embed_dims": (8, 16, 24, 32),
            "depths": (2, 1, 1, 1),
            "num_heads": (2, 2, 3, 4),
            "mlp_ratios": (2, 2, 2, 2),
            "mixers": ([mixer(1), mixer(5)], mixer(2), {"type": "mmeffvit.MaSAMixer"}, mixer(1)),
            "layer_scale": (None,) * 4,
        }
    )
    outs = network(torch.randn(1, 3, 33, 47))
    assert [tuple(out.shape[1:]) for out in outs] == [
        (8, 9, 12),
        (16, 5, 6),
        (24, 3, 3),
        (32, 2, 2),
    ]
    assert [block.mixer.core.dilation for block in network.stages[0].blocks] == [1, 5]


def test_impossible_arguments():
    for kernel_size, dilation in ((4, 1), (0, 1), (3, 0)):
        with pytest.raises(ValueError, match="odd kernel_size and a dilation of at least 1"):
            NeighbourhoodMixer(8, 2, kernel_size, dilation)
    with pytest.raises(ValueError, match="multiple of num_heads, got 10 and 4"):
        NeighbourhoodMixer(10, 4)


def test_description_names_what_differs():
    assert "kernel_size=5, dilation=3" in repr(NeighbourhoodMixer(8, 2, 5, 3))
