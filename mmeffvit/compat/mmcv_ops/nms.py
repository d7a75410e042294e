"""Non-maximum suppression: ``nms``, ``softnms`` and ``nms_match`` of ``mmcv._ext``.

Equal scores keep the order of the input, on every device.
"""

import numpy as np
import torch
import torchvision
from torch import Tensor

from mmeffvit.compat.mmcv_ops.dtypes import compute_dtype

_NAIVE, _LINEAR, _GAUSSIAN = range(3)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Greedy suppression of boxes that overlap a better one by more than ``iou_threshold``.

    Args:
        boxes: (N, 4) corners x1, y1, x2, y2.
        scores: (N,).
        iou_threshold: Intersection over union above which the lower score goes.
        offset: 0, or 1 if the corners are pixels inside the box (width = x2 - x1 + 1).

    Returns:
        Indices of the boxes that stay, (K,) int64, best score first.
    """
    dtype = compute_dtype(boxes, scores)
    boxes, scores = boxes.detach().to(dtype), scores.detach().to(dtype)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares in the type of the boxes: an overlap of exactly 0.3 in float32 is not above 0.3.
    # torchvision compares with the double 0.3, which is less than float32's, and would suppress it.
    threshold = torch.tensor(iou_threshold, dtype=dtype).item()
    return torchvision.ops.nms(boxes, scores, threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the scores of boxes that overlap a better one, and drop the lowest.

    Bodla et al., Soft-NMS, arXiv:1704.04503, section 3. The best box of all is never dropped.

    Args:
        boxes: (N, 4) corners.
        scores: (N,).
        dets: (N, 5) on the CPU; rows [0, K) receive the boxes that stay and their new scores, in
            the order in which they were picked.
        iou_threshold: Overlap from which on methods 0 and 1 act.
        sigma: Width of method 2.
        min_score: Least score that stays.
        method: 0 drops (naive), 1 multiplies by 1 - overlap (linear), 2 by exp(-overlap² / sigma)
            (gaussian).
        offset: As in :func:`nms`.

    Returns:
        Indices of the boxes that stay, (K,) int64, in the order of ``dets``.
    """
    dtype = compute_dtype(boxes, scores)
    # One step per box on short vectors: NumPy's calls cost a fraction of torch's.
    rows = torch.cat([boxes, scores[:, None]], dim=1).detach().to(device="cpu", dtype=dtype).numpy()
    x1, y1, x2, y2, score = (np.array(column) for column in rows.T)
    area = (x2 - x1 + offset) * (y2 - y1 + offset)
    index = np.arange(len(rows))
    columns = (x1, y1, x2, y2, score, area, index)
    threshold = rows.dtype.type(iou_threshold)
    zero, one = rows.dtype.type(0), rows.dtype.type(1)

    picked, end = 0, len(rows)
    while picked < end:
        best = picked + int(np.argmax(score[picked:end]))
        for column in columns:
            column[picked], column[best] = column[best], column[picked]
        rest = slice(picked + 1, end)
        width = np.minimum(x2[picked], x2[rest]) - np.maximum(x1[picked], x1[rest]) + offset
        height = np.minimum(y2[picked], y2[rest]) - np.maximum(y1[picked], y1[rest]) + offset
        inter = np.maximum(zero, width) * np.maximum(zero, height)
        with np.errstate(divide="ignore", invalid="ignore"):  # two empty boxes: 0 / 0 is no overlap
            overlap = inter / (area[picked] + area[rest] - inter)
        if method == _NAIVE:
            factor = np.where(overlap >= threshold, zero, one)
        elif method == _LINEAR:
            factor = np.where(overlap >= threshold, one - overlap, one)
        elif method == _GAUSSIAN:
            factor = np.exp(-(overlap * overlap) / rows.dtype.type(sigma))
        else:
            raise ValueError(f"soft-nms method {method} is not known; 0, 1 and 2 are")
        score[rest] *= factor
        end = _drop(columns, score[rest] < min_score, picked + 1, end)
        picked += 1

    kept = np.stack([x1[:end], y1[:end], x2[:end], y2[:end], score[:end]], axis=1)
    dets[:end] = torch.from_numpy(kept).to(dets)
    return torch.from_numpy(index[:end].copy())


def _drop(columns: tuple[np.ndarray, ...], dropped: np.ndarray, start: int, end: int) -> int:
    """Close the gaps of dropped rows in [start, end) with rows from the end; returns the new end.

    The last row that stays goes into the first gap, and so on: mmcv's order, which decides between
    equal scores later.
    """
    new_end = end - int(np.count_nonzero(dropped))
    if new_end != end:
        size = new_end - start
        gaps = start + np.flatnonzero(dropped[:size])
        fillers = new_end + np.flatnonzero(~dropped[size:])[::-1]
        for column in columns:
            column[gaps] = column[fillers]
    return new_end


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group every box with the best box that suppresses it.

    Args:
        dets: (N, 5) corners and score.
        iou_threshold: Overlap from which on (including it) the better box takes the other.

    Returns:
        One list of indices per box that stays, best score first; the box that stays is the first of
        it.
    """
    dtype = compute_dtype(dets)
    rows = dets.detach().to(device="cpu", dtype=dtype)
    x1, y1, x2, y2, score = rows.unbind(1)
    order = score.sort(descending=True, stable=True).indices.numpy()
    x1, y1, x2, y2 = (column.numpy()[order] for column in (x1, y1, x2, y2))
    area = (x2 - x1) * (y2 - y1)
    threshold = rows.numpy().dtype.type(iou_threshold)

    groups = []
    left = np.arange(len(order))
    while left.size:
        first, rest = left[0], left[1:]
        width = np.minimum(x2[first], x2[rest]) - np.maximum(x1[first], x1[rest])
        height = np.minimum(y2[first], y2[rest]) - np.maximum(y1[first], y1[rest])
        inter = np.maximum(0, width) * np.maximum(0, height)
        with np.errstate(divide="ignore", invalid="ignore"):
            taken = inter / (area[first] + area[rest] - inter) >= threshold
        groups.append(order[[first, *rest[taken]]].tolist())
        left = rest[~taken]
    return groups
