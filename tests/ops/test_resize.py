"""Resizing row by row and column by column, beside PyTorch's operator."""

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounter

from mmeffvit.ops.resize import resize_in_lines, resize_map


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(5, 7), (14, 3), (1, 20), (4, 23)])
def test_equals_the_operator_with_gradients(mode, size):
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    expected = F.interpolate(x, size, mode=mode, align_corners=False)
    actual = resize_in_lines(x, size, mode)
    torch.testing.assert_close(actual, expected)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((out * weight).sum(), x)[0] for out in (actual, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_is_compiled_once_for_all_sizes(mode):
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(resize_map, backend=counter, dynamic=True, fullgraph=True)
    x = torch.randn(1, 2, 6, 5)
    for size in ((11, 9), (4, 13)):
        torch.testing.assert_close(compiled(x, size, mode), resize_map(x, size, mode))
    assert counter.frame_count == 1
