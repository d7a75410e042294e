"""Focal losses: ``sigmoid_focal_loss_*`` and ``softmax_focal_loss_*`` of ``mmcv._ext``.

Lin et al., Focal Loss for Dense Object Detection, arXiv:1708.02002, section 3.2 and appendix B.
``target`` holds class indices; an index that is no column of the scores marks background.
An empty ``weight`` means none. Results are written into the tensors that the caller allocated.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.compat.mmcv_ops.dtypes import compute_dtype


def _row_weight(weight: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor:
    """Weight of each row's class, (N,); 1 for background, which has no entry in ``weight``."""
    ones = torch.ones(target.shape, dtype=dtype, device=target.device)
    if weight.numel() == 0:
        return ones
    known = (target >= 0) & (target < weight.numel())
    return torch.where(known, weight.to(dtype)[target.clamp(0, weight.numel() - 1)], ones)


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
    output.copy_(loss * _row_weight(weight, target, dtype)[:, None])


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
    grad_input.copy_(grad * _row_weight(weight, target, dtype)[:, None])


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of every row, (N,), into ``output``; background costs nothing.

    Args:
        input: Probabilities (after the softmax), (N, C).
        target: Class of each row, (N,).
        weight: Factor per class, (C,) or empty.
        output: (N,).
        gamma: Exponent of the modulating factor.
        alpha: Factor of every loss.
    """
    dtype = compute_dtype(input)
    p, foreground = _target_probability(input.to(dtype), target)
    loss = -alpha * (1 - p) ** gamma * p.log()
    output.copy_(torch.where(foreground, loss * _row_weight(weight, target, dtype), 0))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Write the derivative of each row's loss for its scores before the softmax into
    ``grad_input``.

    ``buff`` (N,) receives the factor that all scores of a row share.
    """
    dtype = compute_dtype(input)
    probabilities = input.to(dtype)
    p, foreground = _target_probability(probabilities, target)
    # (1 - p) ** (gamma - 1) is infinite at p = 1 for gamma < 1, where p log p takes it to zero.
    modulation = torch.where(p < 1, (1 - p) ** (gamma - 1), 0)
    common = alpha * (gamma * modulation * p * p.log() - (1 - p) ** gamma)
    common = torch.where(foreground, common * _row_weight(weight, target, dtype), 0)
    buff.copy_(common)
    is_target = _is_target(target, input.size(1)).to(dtype)
    grad_input.copy_(common[:, None] * (is_target - probabilities))


def _target_probability(probabilities: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of each row's class, kept above 0 for the logarithm, and which rows have one.

    Both (N,).
    """
    num_classes = probabilities.size(1)
    foreground = (target >= 0) & (target < num_classes)
    column = target.clamp(0, max(0, num_classes - 1)).unsqueeze(1)
    tiny = torch.finfo(torch.float32).tiny
    return probabilities.gather(1, column).squeeze(1).clamp(min=tiny), foreground
