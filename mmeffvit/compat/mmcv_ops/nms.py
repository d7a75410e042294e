"""Non-maximum suppression: ``nms``, ``softnms`` and ``nms_match`` of ``mmcv._ext``.

Equal scores keep the order of the input, on every device.
"""

import torch
import torchvision  # registers torch.ops.torchvision
from torch import Tensor

from mmeffvit.compat.mmcv_ops.dtypes import compute_dtype


def _float32_threshold(threshold: float, dtype: torch.dtype) -> float:
    """mmcv compares float32 overlaps with a float32 threshold: an overlap of exactly 0.3 is not above it.

    torchvision compares with the double 0.3, which is below float32's 0.3 and would suppress that box.
    """
    return float(torch.tensor(threshold, dtype=dtype))


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Greedy suppression of boxes that overlap a better one by more than ``iou_threshold``.

    Args:
        boxes: (N, 4) corners x1, y1, x2, y2.
        scores: (N,).
        iou_threshold: Intersection over union above which the lower score goes.
        offset: 0, or 1 if corners are pixels that belong to the box (width = x2 - x1 + 1).

    Returns:
        Indices of the boxes that stay, (K,) int64, best score first.
    """
    dtype = compute_dtype(boxes, scores)
    boxes, scores = boxes.detach().to(dtype), scores.detach().to(dtype)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(boxes, scores, _float32_threshold(iou_threshold, dtype))
