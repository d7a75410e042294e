"""What is drawn of deformable attention is what it reads."""

import numpy as np
import pytest
import torch
from torch import nn

from mmeffvit.layers import Context, DeformableAttention
from mmeffvit.models import PyramidViT, ViTCoMer
from mmeffvit.ops import deformable_attention
from mmeffvit.testing import small_arch
from mmeffvit.visualization.attention import (
    draw_attention,
    make_rows,
    pyramid_sections,
    read_weights,
    record_mixers,
)

SHAPES = [(4, 6), (2, 3)]


def random_attention(levels=2):
    module = DeformableAttention(8, 2, levels, 3)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def test_weights_times_values_are_the_output():
    module = random_attention()
    sources = [torch.randn(1, 8, *shape) for shape in SHAPES]
    token, context = (2, 5), Context()
    weights = read_weights(module, sources[0], token, sources, context)
    assert [w.shape for w in weights] == [(2, 4, 6), (2, 2, 3)]
    with torch.no_grad():
        levels = module.levels(sources, context)
        centre = torch.tensor([[(5 + 0.5) / 6, (2 + 0.5) / 4]])
        query = sources[0][..., 2:3, 5:6]
        points = module.points(query, centre, levels.sizes)
        expected = deformable_attention(levels.values, levels.shapes, *points)[0, 0]
    flat = torch.cat([w.flatten(1) for w in weights], 1)
    torch.testing.assert_close(torch.einsum("hs,shd->hd", flat, levels.values[0]), expected)


def test_mixers_of_a_pyramid():
    arch = {
        "embed_dims": (8, 8, 16, 16),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 2, 4, 4),
        "mlp_ratios": (1, 1, 1, 1),
        "mixers": ({"type": "mmeffvit.DeformableMixer"},) * 4,
        "layer_scale": (None,) * 4,
    }
    calls = record_mixers(PyramidViT(arch), torch.randn(1, 3, 64, 96))
    for call in calls:
        (row,) = make_rows(call, (0, 1))
        assert len(row.maps) == call.mixer.num_heads
        for token_map in row.maps:
            assert token_map.values.shape == call.size
            assert 0 < np.nansum(token_map.values.numpy()) <= 1 + 1e-5


def test_levels_of_vit_comer():
    backbone = ViTCoMer(small_arch("vit-comer-det-small"))
    image = torch.randn(1, 3, 64, 96)
    # two interactions with two attentions each, and one more fusion
    sections = pyramid_sections(backbone, image, (40, 50), range(5))
    names = [section.title.partition(":")[0] for section in sections]
    parts = ("0.cti_tov", "0.cti_toc.cfinter", "1.cti_tov", "1.cti_toc.cfinter")
    assert names[:4] == [f"interactions.{part}.attn" for part in parts]
    assert names[4] == "interactions.1.extra_CTIs.0.cfinter.attn"
    for section in sections:
        assert section.strides == [8, 16, 32]
        for row in section.rows:
            assert [m.values.shape for m in row.maps] == [(8, 12), (4, 6), (2, 3)]
    with pytest.raises(ValueError, match=r"has 5 deformable attentions .* no number 5"):
        pyramid_sections(backbone, image, (40, 50), [0, 5])
    assert backbone.training


def test_sheet():
    figure = draw_attention(
        ViTCoMer(small_arch("vit-comer-det-small")),
        np.zeros((64, 96, 3), np.uint8),
        size=(64, 96),
        title="ViT-CoMer",
    )
    # two attentions, two rows of three levels each, and the image
    panels = [axes for axes in figure.axes if axes.get_images()]
    assert len(panels) == 2 * 2 * 3 + 1
