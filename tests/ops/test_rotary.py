import math

import pytest
import torch

from mmeffvit.ops import apply_rotary, rotary_table_2d


def literal_angle(y, x, pair, head_dim):
    count = head_dim // 4
    position, t = (y, pair) if pair < count else (x, pair - count)
    return position * (1.0 if count == 1 else 10000 ** (-t / (count - 1)))


@pytest.mark.parametrize("head_dim", [4, 8, 16, 32])
def test_table_is_the_formula_on_a_map_that_is_not_square(head_dim):
    height, width = 3, 7
    table = rotary_table_2d(height, width, head_dim)
    assert table.shape == (height * width, head_dim // 2, 2)
    assert table.dtype == torch.float32
    for y, x in ((0, 0), (0, 6), (2, 0), (2, 5)):
        for pair in range(head_dim // 2):
            angle = literal_angle(y, x, pair, head_dim)
            expected = torch.tensor([math.cos(angle), math.sin(angle)])
            torch.testing.assert_close(table[y * width + x, pair], expected, atol=1e-6, rtol=0)


def test_rotation_of_adjacent_pairs():
    table = rotary_table_2d(3, 5, 8)
    x = torch.randn(2, 15, 4, 8)
    cos, sin = (table[..., i].repeat_interleave(2, -1)[:, None] for i in (0, 1))
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    torch.testing.assert_close(apply_rotary(x, table), x * cos + turned * sin)


def test_traced_and_eager_formulas_agree(monkeypatch):
    table, x = rotary_table_2d(4, 5, 16), torch.randn(1, 20, 2, 16)
    eager = apply_rotary(x, table)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(apply_rotary(x, table), eager)


def test_strided_input_and_gradient():
    table = rotary_table_2d(2, 3, 4).double()
    # channels are the slowest axis of this one
    x = torch.randn(4, 2, 6, 1, dtype=torch.float64).permute(3, 2, 1, 0).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: apply_rotary(u, table), (x,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rotates_in_float32(dtype):
    table, x = rotary_table_2d(100, 200, 8), torch.randn(1, 20000, 1, 8, dtype=dtype)
    out = apply_rotary(x, table)
    assert out.dtype == dtype
    assert torch.equal(out, apply_rotary(x.float(), table).to(dtype))


def test_tables_are_made_once_and_serve_training_after_inference():
    with torch.inference_mode():
        first = rotary_table_2d(5, 9, 12)
    assert rotary_table_2d(5, 9, 12) is first
    x = torch.randn(1, 45, 1, 12, requires_grad=True)
    apply_rotary(x, first).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("head_dim", [0, 6, -4])
def test_head_dimension_must_be_a_multiple_of_four(head_dim):
    with pytest.raises(ValueError, match=f"multiple of 4, got {head_dim}"):
        rotary_table_2d(2, 2, head_dim)
