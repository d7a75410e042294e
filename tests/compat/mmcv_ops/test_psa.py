"""PSANet's masks against their formula written as loops."""

import pytest
import torch
from mmcv import ops
from torch.autograd import gradcheck


def naive(masks, mask_size, collect):
    batch, _, height, width = masks.shape
    rows, columns = mask_size
    out = masks.new_zeros(batch, height * width, height, width)
    for y in range(height):
        for x in range(width):
            for row in range(rows):
                for column in range(columns):
                    # the cell that this weight of the mask of (y, x) is for
                    v, u = y + row - (rows - 1) // 2, x + column - (columns - 1) // 2
                    if 0 <= v < height and 0 <= u < width:
                        weight = masks[:, row * columns + column, y, x]
                        if collect:
                            out[:, v * width + u, y, x] = weight
                        else:
                            out[:, y * width + x, v, u] = weight
    return out


# as large as PSANet has them, smaller than the map, and of an even side
@pytest.mark.parametrize("mask_size", [(5, 7), (3, 3), (4, 2), (9, 9)])
@pytest.mark.parametrize("kind", ["collect", "distribute"])
def test_psamask(kind, mask_size, device):
    masks = torch.randn(
        2, mask_size[0] * mask_size[1], 3, 4, dtype=torch.float64, device=device
    ).requires_grad_()
    module = ops.PSAMask(kind, mask_size)
    out = module(masks)
    torch.testing.assert_close(out, naive(masks, mask_size, kind == "collect"), rtol=0, atol=0)
    gradcheck(module, masks, fast_mode=True)
