import math

import pytest
import torch

from mmeffvit.ops import (
    apply_rotary,
    rotary_table_1d,
    rotary_table_2d,
    rotary_table_of_positions,
)


@pytest.mark.parametrize(("head_dim", "pairs"), [(6, (1, 1, 1)), (16, (3, 3, 2)), (32, (6, 5, 5))])
def test_table_is_the_formula(head_dim, pairs):
    positions = torch.tensor([[0.0, 0.0, 0.0], [1.5, -2.0, 40.25], [1e4, 0.5, -7.0]])
    table = rotary_table_of_positions(positions, head_dim, base=50.0)
    assert table.shape == (3, head_dim // 2, 2)
    assert table.dtype == torch.float32
    for position, rows in zip(positions.tolist(), table):
        angles = [
            x * 50.0 ** -(t / max(1, n - 1)) for x, n in zip(position, pairs) for t in range(n)
        ]
        expected = [[math.cos(a), math.sin(a)] for a in angles]
        torch.testing.assert_close(rows, torch.tensor(expected), rtol=0, atol=1e-6)


def test_whole_numbers_are_a_map_or_a_sequence():
    grid = torch.cartesian_prod(torch.arange(5), torch.arange(7))
    assert torch.equal(rotary_table_of_positions(grid, 16, 1e4), rotary_table_2d(5, 7, 16))
    line = torch.arange(9)[:, None]
    assert torch.equal(rotary_table_of_positions(line, 6, 1e4), rotary_table_1d(9, 6))


def test_products_depend_on_differences_alone():
    positions = torch.rand(20, 3) * 30
    q, k = (torch.randn(1, 20, 1, 16) for _ in range(2))

    def logits(positions):
        table = rotary_table_of_positions(positions, 16)
        turned = (apply_rotary(t, table)[0, :, 0] for t in (q, k))
        return next(turned) @ next(turned).T

    expected = logits(positions.double())
    away = positions.double() + torch.tensor([1e5, -3e3, 0.25])
    torch.testing.assert_close(logits(away), expected, rtol=1e-5, atol=2e-6)
    assert not torch.allclose(logits(positions * 1.1), expected, atol=0.1)


@pytest.mark.parametrize(
    ("shape", "head_dim", "message"),
    [
        ((4, 3), 4, "3-D rotary table needs .* even and at least 6, got 4"),
        ((4, 3), 7, "got 7"),
        ((4,), 8, r"must be \(L, D\), got the shape \(4,\)"),
    ],
)
def test_sizes_that_do_not_fit(shape, head_dim, message):
    with pytest.raises(ValueError, match=message):
        rotary_table_of_positions(torch.zeros(shape), head_dim)
