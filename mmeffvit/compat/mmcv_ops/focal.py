"""Focal losses: ``sigmoid_focal_loss_*`` and ``softmax_focal_loss_*`` of ``mmcv._ext``.

Lin et al., Focal Loss for Dense Object Detection, arXiv:1708.02002, section 3.2 and appendix B.
``target`` holds class indices; an index that is no column of the scores marks background.
An empty ``weight`` means none. Results are written into the tensors that the caller allocated.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.compat.mmcv_ops.dtypes import compute_dtype


def _row_weight(weight: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor | float:
    """Weight of each row's class, (N, 1); 1 for background, which has no entry in ``weight``."""
    if weight.numel() == 0:
        return 1.0
    known = (target >= 0) & (target < weight.numel())
    row_weight = weight.to(dtype)[target.clamp(0, weight.numel() - 1)]
    return torch.where(known, row_weight, 1.0).unsqueeze(1)


def _is_target(target: Tensor, num_classes: int) -> Tensor:
    """(N, C) mask of each row's class."""
    return target.unsqueeze(1) == torch.arange(num_classes, device=target.device)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of every score, (N, C), into ``output``.

    Args:
        input: Scores before the sigmoid, (N, C).
        target: Class of each row, (N,); C for background.
        weight: Factor per class, (C,) or empty.
        output: (N, C).
        gamma: Exponent of the modulating factor.
        alpha: Weight of positives; negatives have 1 - alpha.
    """
    dtype = compute_dtype(input)
    scores = input.to(dtype)
    p = scores.sigmoid()
    positive = -alpha * (1 - p) ** gamma * F.logsigmoid(scores)
    negative = -(1 - alpha) * p**gamma * F.logsigmoid(-scores)
    loss = torch.where(_is_target(target, input.size(1)), positive, negative)
    output.copy_(loss * _row_weight(weight, target, dtype))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of every loss with respect to its score, (N, C), into ``grad_input``."""
    dtype = compute_dtype(input)
    scores = input.to(dtype)
    p = scores.sigmoid()
    positive = -alpha * (1 - p) ** gamma * (1 - p - gamma * p * F.logsigmoid(scores))
    negative = -(1 - alpha) * p**gamma * (gamma * (1 - p) * F.logsigmoid(-scores) - p)
    grad = torch.where(_is_target(target, input.size(1)), positive, negative)
    grad_input.copy_(grad * _row_weight(weight, target, dtype))
