"""The neck that gives heads maps at the strides of a dilated backbone."""

import pytest
import torch
import torch.nn.functional as F

from mmeffvit.models import ResizeToStrides


def test_resizes_only_what_has_another_stride():
    neck = ResizeToStrides((4, 8, 16, 32), (4, 8, 8, 8))
    maps = [torch.randn(2, 3 + i, 64 // s, 96 // s) for i, s in enumerate((4, 8, 16, 32))]
    out = neck(maps)
    assert out[0] is maps[0]
    assert out[1] is maps[1]
    for x, y in zip(maps[2:], out[2:], strict=True):
        expected = F.interpolate(x, (8, 12), mode="bilinear", align_corners=False)
        torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("size", [(70, 97), (33, 64)])
def test_equal_strides_have_equal_sizes(size):
    """Also where the maps were rounded up."""
    maps = [torch.randn(1, 2, *(-(-side // s) for side in size)) for s in (4, 8, 16, 32)]
    out = ResizeToStrides((4, 8, 16, 32), (4, 8, 8, 8))(maps)
    assert [x.shape[-2:] for x in out[1:]] == [maps[1].shape[-2:]] * 3


def test_further_strides_are_made_of_the_last_map():
    maps = [torch.randn(1, 2, 12, 8), torch.randn(1, 3, 6, 4)]
    fine, last, further = ResizeToStrides((8, 16), (8, 16, 32))(maps)
    assert fine is maps[0]
    assert last is maps[1]
    torch.testing.assert_close(further, F.avg_pool2d(last, 2))  # what bilinear halving is


def test_gradients_reach_every_map():
    maps = [torch.randn(1, 2, 8 // s, 8 // s, requires_grad=True) for s in (1, 2, 4)]
    sum(x.sum() for x in ResizeToStrides((8, 16, 32), (8, 8, 8))(maps)).backward()
    for x in maps:
        # the weights of an interpolation add up to the number of new cells per old one
        torch.testing.assert_close(x.grad.sum(), torch.tensor(2.0 * 64))


def test_memory_format():
    x = torch.randn(1, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    (kept,) = ResizeToStrides((8,), (8,))([x])
    (made,) = ResizeToStrides((8,), (8,), contiguous=True)([x])
    assert not kept.is_contiguous()
    assert made.is_contiguous()
    torch.testing.assert_close(made, x)


def test_errors():
    with pytest.raises(ValueError, match="as many out_strides as in_strides"):
        ResizeToStrides((4, 8), (4,))
    with pytest.raises(ValueError, match="all positive"):
        ResizeToStrides((), (4,))
    with pytest.raises(ValueError, match="got 1 maps"):
        ResizeToStrides((4, 8), (4, 4))([torch.randn(1, 2, 4, 4)])
