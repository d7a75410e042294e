"""Pictures of attention across scales in a neck."""

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from torch import nn

from mmeffvit.models.necks import CrossScaleAttention
from mmeffvit.visualization.attention import draw_attention
from mmeffvit.visualization.attention.regions import RegionCall, scale_sections

IMAGE = np.random.default_rng(0).integers(0, 255, (80, 112, 3), np.uint8)


class Maps(nn.Module):
    """Strides 4 to 32 of an image, as a convolution each."""

    def __init__(self):
        super().__init__()
        strides = (4, 8, 16, 32)
        self.convs = nn.ModuleList(nn.Conv2d(3, 4, s, s, padding=s // 2) for s in strides)

    def forward(self, x):
        sizes = [[-(-n // conv.stride[0]) for n in x.shape[2:]] for conv in self.convs]
        return tuple(conv(x)[..., :h, :w] for conv, (h, w) in zip(self.convs, sizes))


def network(depth=2):
    neck = CrossScaleAttention([4] * 4, 8, 2, depth=depth, start_level=1)
    nn.init.normal_(neck.blocks[-1].qkv.weight)
    return Maps(), neck


def call(side=4):
    """A block on 2x3 regions whose weights are far from even."""
    _, neck = network()
    sides = (1, 1, 2, side)
    maps = [torch.randn(1, 8, 2 * s, 3 * s) for s in sides]
    valid = [torch.ones(2 * s, 3 * s, dtype=torch.bool) for s in sides]
    valid[-1][:, -1] = False
    return RegionCall(neck.blocks[-1], maps, sides, valid)


def test_weights_of_a_token_make_its_output():
    made = call()
    v = [torch.randn_like(x) for x in made.q]
    out = made._attend(v)[3][0, 5, 9]
    weights = made.attention_of(3, (5, 9))
    read = sum(torch.einsum("hyx,yxhd->hd", w, x[0]) for w, x in zip(weights, v))
    torch.testing.assert_close(read, out)
    # inside its region, the second row's third, and nowhere else
    assert (weights[3][:, 4:, 8:11] > 0).all()
    assert not weights[3][:, :4].any()
    assert not weights[3][:, :, :8].any()
    assert not weights[3][:, :, 11].any()  # is no key


def test_shares_are_sums_of_weights():
    made = call()
    shares = made.shares()
    torch.testing.assert_close(shares[3].sum(1), torch.ones(2, 8, 12))
    of_levels = [w.sum((1, 2)) for w in made.attention_of(2, (1, 4))]
    torch.testing.assert_close(shares[2][:, :, 1, 4], torch.stack(of_levels, 1))
    assert shares[2].std() > 0.01


def test_sections_of_an_image_that_regions_do_not_divide():
    x = torch.randn(1, 3, 80, 112)
    marked, *levels = scale_sections(*network(), x, (79, 111), heads=[0, 1])
    assert len(marked.rows) == 2
    assert list(marked.strides) == [32, 16, 8]
    assert [m.values.shape for m in marked.rows[0].maps] == [(3, 4), (5, 7), (10, 14)]
    # the corner's region has two rows and two columns of tokens in the image
    assert int(marked.rows[0].maps[-1].values.isfinite().sum()) == 4
    assert [section.strides for section in levels] == [8, 16, 32]
    for section, size in zip(levels, [(10, 14), (5, 7), (3, 4)]):
        assert [m.values.shape for m in section.rows[0].maps] == [size] * 4


def test_a_sheet_is_drawn():
    backbone, neck = network(depth=1)
    figure = draw_attention(backbone, IMAGE, size=(80, 112), neck=nn.Sequential(neck))
    texts = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "Block 0 (the last) of the neck" in texts


def test_errors_say_what_there_is():
    backbone, neck = network()
    x = torch.randn(1, 3, 64, 64)
    with pytest.raises(ValueError, match=r"there is no block 2: the neck has 2, 0 to 1"):
        scale_sections(backbone, neck, x, (0, 0), blocks=(2,))
    with pytest.raises(ValueError, match=r"no head 2 in the neck, which has the heads 0 to 1"):
        scale_sections(backbone, neck, x, (0, 0), heads=(2,))
    with pytest.raises(ValueError, match=r"the neck, Identity, has no attention to draw"):
        scale_sections(backbone, nn.Identity(), x, (0, 0))
