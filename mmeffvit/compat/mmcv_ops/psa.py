"""Point-wise spatial attention masks (PSANet): ``psamask_*`` of ``mmcv._ext``.

Results are written into the tensors that the caller allocated.
"""

import torch
from torch import Tensor

_COLLECT = 0


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Turn masks centred on each cell into masks over the whole map.

    Zhao et al., PSANet, ECCV 2018, section 3.2: cell i of the map has a mask of h_mask x w_mask
    weights, the middle one for itself; the weight for cell j is the one at j - i from the middle,
    or 0 outside of the mask.

    Args:
        input: Masks, (B, h_mask w_mask, H, W).
        output: (B, H W, H, W). Collecting, entry (j, i) is the weight of cell i for j;
            distributing, entry (i, j).
        psa_type: 0 collects, 1 distributes.
        num_: B.
        h_feature: H.
        w_feature: W.
        h_mask: Rows of a mask.
        w_mask: Columns of a mask.
        half_h_mask: Row of the middle.
        half_w_mask: Column of the middle.
    """
    size, mask, middle = (h_feature, w_feature), (h_mask, w_mask), (half_h_mask, half_w_mask)
    index, inside = _places(size, mask, middle, input.device)
    weights = input.flatten(2).gather(1, index.expand(num_, -1, -1)) * inside
    output.copy_((weights if psa_type == _COLLECT else weights.mT).reshape(output.shape))


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Gradient of :func:`psamask_forward` for ``input``."""
    size, mask, middle = (h_feature, w_feature), (h_mask, w_mask), (half_h_mask, half_w_mask)
    index, inside = _places(size, mask, middle, grad_output.device)
    grad = grad_output.flatten(2)
    grad = (grad if psa_type == _COLLECT else grad.mT) * inside
    grad_input.zero_()
    flat = grad_input.flatten(2)
    flat.scatter_add_(1, index.expand(num_, -1, -1), grad)
    grad_input.copy_(flat.reshape(grad_input.shape))


def _places(
    size: tuple[int, int], mask: tuple[int, int], middle: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """For cells (j, i), (L, L): place of j in the mask of i, and whether it is inside of it."""
    rows, columns = (torch.arange(length, device=device) for length in size)
    row = rows[:, None] - rows + middle[0]  # (H, H) of j and i
    column = columns[:, None] - columns + middle[1]  # (W, W)
    inside = (
        (((row >= 0) & (row < mask[0]))[:, None, :, None])
        & (((column >= 0) & (column < mask[1]))[None, :, None, :])
    )
    index = row[:, None, :, None] * mask[1] + column[None, :, None, :]
    cells = size[0] * size[1]
    inside = inside.reshape(cells, cells)
    return index.reshape(cells, cells).where(inside, 0), inside
