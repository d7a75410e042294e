"""The module around the operator, one query at a time, on levels that are not square."""

import math

import pytest
import torch

from mmeffvit.layers import Context, DeformableAttention, DeformableMixer, MapContext
from mmeffvit.models import PyramidViT

SHAPES = [(6, 10), (3, 5), (2, 3)]


def maps(shapes, dim=8, batch=2):
    return [torch.randn(batch, dim, *shape, dtype=torch.float64) for shape in shapes]


def linear(layer, x):
    return layer.weight[..., 0, 0] @ x + layer.bias


def read(level, x, y):
    """Bilinear, between the centres of pixels, zero outside; x counts columns."""
    total = torch.zeros(len(level), dtype=level.dtype)
    for row in range(level.shape[1]):
        for column in range(level.shape[2]):
            share = max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))
            total += share * level[:, row, column]
    return total


def literal(module, queries, sources, image, at, position):
    """What one pixel of one map of queries gets, after the formulas of Deformable DETR."""
    height, width = queries[at].shape[-2:]
    row, column = position
    sampled = linear(module.sampling, queries[at][image, :, row, column])
    heads, levels, points = module.num_heads, module.num_levels, module.num_points
    count = heads * levels * points
    offsets = sampled[: 2 * count].view(heads, levels, points, 2)
    weights = sampled[2 * count :].view(heads, -1).softmax(-1).view(heads, levels, points)
    out = []
    for head in range(heads):
        total = 0
        for level, source in enumerate(sources):
            value = torch.einsum("chw,dc->dhw", source[image], module.value_proj.weight[..., 0, 0])
            value = value + module.value_proj.bias[:, None, None]
            value = value.unflatten(0, (heads, -1))[head]
            rows, columns = source.shape[-2:]
            for point in range(points):
                dx, dy = offsets[head, level, point].tolist()
                x = ((column + 0.5) / width + dx / columns) * columns - 0.5
                y = ((row + 0.5) / height + dy / rows) * rows - 0.5
                total = total + weights[head, level, point] * read(value, x, y)
        out.append(total)
    return linear(module.output_proj, torch.cat(out))


def test_equals_the_formula_query_by_query():
    module = DeformableAttention(8, 2, 3, 2, value_ratio=0.5).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    queries, sources = maps(SHAPES), maps(SHAPES)
    with torch.no_grad():
        outs = module(queries, sources, Context())
        for at, position in ((0, (0, 0)), (0, (5, 9)), (0, (2, 7)), (1, (1, 4)), (2, (1, 0))):
            expected = literal(module, queries, sources, 1, at, position)
            actual = outs[at][1, :, position[0], position[1]]
            # places are in float32
            torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-6)
    assert [out.shape for out in outs] == [q.shape for q in queries]


def test_first_offsets_go_around_a_square():
    module = DeformableAttention(8, 4, 3, 2)
    offsets = module.sampling.bias[: 2 * 24].view(4, 3, 2, 2)
    directions = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    for head, direction in enumerate(directions):
        for point in range(2):
            expected = torch.tensor(direction) * (point + 1.0)
            for level in range(3):
                torch.testing.assert_close(offsets[head, level, point], expected)
    eight = DeformableAttention(8, 8, 1, 1).sampling.bias[:16].view(8, 2)
    torch.testing.assert_close(eight.abs().amax(1), torch.ones(8))
    assert not module.sampling.weight.any()
    assert not module.sampling.bias[48:].any()
    bound = math.sqrt(6 / 16)
    assert 0.8 * bound < module.value_proj.weight.abs().max() <= bound


def test_heads_divide_the_values():
    with pytest.raises(ValueError, match="multiple of num_heads, got 4 and 3"):
        DeformableAttention(8, 3, value_ratio=0.5)


def test_mixer_in_any_stage_of_a_pyramid():
    mixer = {"type": "mmeffvit.DeformableMixer", "num_points": 2}
    arch = {
        "embed_dims": (8, 8, 16, 16),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 2, 4, 4),
        "mlp_ratios": (2, 2, 2, 2),
        "mixers": (mixer,) * 4,
        "layer_scale": (None,) * 4,
    }
    backbone = PyramidViT(arch)
    sum(out.sum() for out in backbone(torch.randn(1, 3, 33, 70))).backward()
    assert all(p.grad is not None for p in backbone.parameters())


def test_mixer_is_the_module_on_one_level():
    mixer = DeformableMixer(8, 2).double()
    (x,) = maps(SHAPES[:1])
    (expected,) = mixer.attn([x], [x], Context())
    torch.testing.assert_close(mixer(x, MapContext.of(x)), expected)
