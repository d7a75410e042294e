import math

import pytest
import torch

from mmeffvit.ops import apply_rotary
from mmeffvit.ops.rotary import rotary_table_1d


@pytest.mark.parametrize("head_dim", [2, 4, 6, 16, 32])
def test_table_is_the_formula(head_dim):
    table = rotary_table_1d(35, head_dim)
    assert table.shape == (35, head_dim // 2, 2)
    assert table.dtype == torch.float32
    for position in (0, 1, 17, 34):
        for t in range(head_dim // 2):
            frequency = 1.0 if head_dim == 2 else 10000 ** (-t / (head_dim / 2 - 1))
            expected = [math.cos(position * frequency), math.sin(position * frequency)]
            assert table[position, t].tolist() == pytest.approx(expected, abs=1e-6)


def test_large_angles_are_exact():
    """The last pixel of a 200 x 336 map turns by 67199 radians."""
    table = rotary_table_1d(200 * 336, 16)
    assert table[-1, 0].tolist() == pytest.approx([math.cos(67199), math.sin(67199)], abs=1e-6)


def test_products_depend_on_the_distance_alone():
    table = rotary_table_1d(50, 8)
    q, k = (torch.randn(8).expand(1, 50, 1, 8) for _ in range(2))
    q, k = apply_rotary(q, table)[0, :, 0], apply_rotary(k, table)[0, :, 0]
    torch.testing.assert_close((q[:-7] * k[7:]).sum(-1), (q[0] @ k[7]).expand(43))


def test_made_once_and_serves_training_after_inference():
    with torch.inference_mode():
        first = rotary_table_1d(45, 6)
    assert rotary_table_1d(45, 6) is first
    x = torch.randn(1, 45, 1, 6, requires_grad=True)
    apply_rotary(x, first).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("head_dim", [0, 5, -2])
def test_head_dimension_must_be_even(head_dim):
    with pytest.raises(ValueError, match=f"even head dimension, got {head_dim}"):
        rotary_table_1d(4, head_dim)
