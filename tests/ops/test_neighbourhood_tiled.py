"""Neighbourhood attention in tiles of plain operators, beside the formula."""

import pytest
import torch
from torch import nn

from mmeffvit.ops import explain, neighbourhood_attention

# rows, columns, kernel, dilation: whole map, ragged tiles, phases of two lengths, one-wide maps
CASES = [
    (7, 7, 7, 1),
    (12, 29, 7, 1),
    (26, 23, 5, 4),
    (1, 9, (1, 5), 1),
    (9, 17, (3, 5), (2, 3)),
    (30, 6, (11, 1), (2, 3)),
]


def inputs(height, width, key_size=None, heads=2, dim=4):
    sizes = [(height, width), *[key_size or (height, width)] * 2]
    return [
        torch.randn(2, *size, heads, dim, dtype=torch.float64, requires_grad=True) for size in sizes
    ]


def pair(value):
    return (value, value) if isinstance(value, int) else value


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("height", "width", "kernel", "dilation"), CASES)
def test_outputs_and_gradients_are_those_of_the_formula(height, width, kernel, dilation, biased):
    tensors, bias = inputs(height, width), None
    if biased:
        table = [2 * side - 1 for side in pair(kernel)]
        bias = torch.randn(2, *table, dtype=torch.float64, requires_grad=True)
    wanted = [*tensors, bias] if biased else tensors
    results = []
    for name in ("tiled", "reference"):
        out = neighbourhood_attention(
            *tensors, kernel, dilation, bias=bias, scale=0.7, implementation=name
        )
        torch.manual_seed(1)
        results.append((out, *torch.autograd.grad(out, wanted, torch.randn_like(out))))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("border", ["shift", "zeros"])
def test_queries_may_be_the_top_left_of_a_larger_map(border):
    tensors = inputs(5, 6, key_size=(11, 9))
    tiled, reference = (
        neighbourhood_attention(*tensors, 3, 2, border=border, implementation=name)
        for name in ("tiled", "reference")
    )
    torch.testing.assert_close(tiled, reference)


def test_it_is_run_when_asked_for():
    tensors = [tensor.detach() for tensor in inputs(8, 8)]
    assert "tiled: can run when asked for by name" in explain(
        "neighbourhood_attention", *tensors, (3, 3), (1, 1)
    )


class Attend(nn.Module):
    def forward(self, q, k, v):
        return neighbourhood_attention(q, k, v, 5, 2, implementation="tiled")


def test_one_exported_program_serves_all_sizes():
    q, k, v = (torch.randn(1, 21, 30, 2, 4) for _ in range(3))
    sides = {1: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    program = torch.export.export(Attend(), (q, k, v), dynamic_shapes=(sides,) * 3)
    module = program.module()
    for height, width in ((21, 30), (17, 43), (40, 18), (10, 11)):
        tensors = [torch.randn(1, height, width, 2, 4) for _ in range(3)]
        expected = neighbourhood_attention(*tensors, 5, 2, implementation="reference")
        torch.testing.assert_close(module(*tensors), expected)
