"""Rotated boxes: overlaps, suppression and pooling of ``mmcv._ext``.

Boxes are (N, 5): centre x, centre y, width, height in pixels, and an angle in radians.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.points import greedy_keep, near_pairs, rotated_iou, rotated_overlap

_INTERSECTIONS = 8  # where they begin among the candidates, which corners of two boxes precede


def box_iou_rotated(
    boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool
) -> None:
    """Overlap of each pair, or of boxes of one row, divided by the union or by the first area.

    Args:
        boxes1: (N, 5).
        boxes2: (M, 5).
        ious: N * M elements that are written, or (N,) if aligned.
        mode_flag: 0 for the union, 1 for the area of the first box.
        aligned: Whether boxes of one row are compared.
    """
    boxes1, boxes2 = boxes1.double(), boxes2.double()
    if aligned:
        ious.copy_(_ious(boxes1, boxes2, mode_flag))
        return
    row, column = near_pairs(boxes1, boxes2)
    out = boxes1.new_zeros(len(boxes1) * len(boxes2))
    out[row * len(boxes2) + column] = _ious(boxes1[row], boxes2[column], mode_flag)
    ious.copy_(out.view_as(ious))


def _ious(first: Tensor, second: Tensor, mode: int) -> Tensor:
    common = rotated_overlap(first, second)
    whole, other = (boxes[:, 2] * boxes[:, 3] for boxes in (first, second))
    if mode == 0:
        whole = whole + other - common
    return torch.where(whole > 0, common / whole.clamp(min=1e-300), 0.0)


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """Indices of the boxes that greedy suppression keeps, the best first.

    Args:
        dets: (N, 5), or (N, 6) with a label.
        scores: (N,).
        order: (N,) indices from the best box to the worst.
        dets_sorted: ``dets`` in that order.
        labels: Of which nothing is read.
        iou_threshold: Above it the worse of two boxes goes.
        multi_label: Whether boxes of different labels spare each other.
    """
    boxes, labels = dets_sorted[:, :5], dets_sorted[:, 5:]
    high, low = near_pairs(boxes, boxes)
    rivals = high < low
    if multi_label:
        rivals &= (labels[high] == labels[low]).all(-1)
    high, low = high[rivals], low[rivals]
    over = rotated_iou(boxes[high], boxes[low]) > iou_threshold
    return order[greedy_keep(high[over], low[over], len(boxes))]


def roi_align_rotated_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> None:
    """Average of bilinear samples in each bin of each rotated region.

    Args:
        input: Features, (B, C, H, W).
        rois: (R, 6): index of the image, and a rotated box.
        output: (R, C, pooled_height, pooled_width).
        pooled_height: Bins per column.
        pooled_width: Bins per row.
        spatial_scale: Size of the features divided by that of the image.
        sampling_ratio: Samples per side of a bin; 0 takes about one per feature cell.
        aligned: Shift by half a cell, and do not widen regions below one cell.
        clockwise: Whether angles grow clockwise.
    """
    bins = (pooled_height, pooled_width)
    for index, part in _pooled(
        input, rois, bins, spatial_scale, sampling_ratio, aligned, clockwise
    ):
        output[index] = part.to(output.dtype)


def roi_align_rotated_backward(
    grad_output: Tensor,
    rois: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> None:
    """Gradient of :func:`roi_align_rotated_forward`, added to ``grad_input``."""
    bins = (pooled_height, pooled_width)
    with torch.enable_grad():
        features = torch.zeros_like(grad_input, requires_grad=True)
        for index, part in _pooled(
            features, rois, bins, spatial_scale, sampling_ratio, aligned, clockwise
        ):
            (grad,) = torch.autograd.grad(part, features, grad_output[index].to(part.dtype))
            grad_input += grad


def diff_iou_rotated_sort_vertices_forward(
    vertices: Tensor, mask: Tensor, num_valid: Tensor
) -> Tensor:
    """Indices of the vertices of intersections, in order round them.

    Args:
        vertices: (B, N, 24, 2), relative to the mean of the valid ones: two boxes' corners, and
            the points where their edges meet, which are zero where they are not valid.
        mask: (B, N, 24), which are valid.
        num_valid: (B, N), how many are.

    Returns:
        (B, N, 9): at most eight vertices, the first once more, and an invalid one, which counts
        for nothing, where there is none left.
    """
    angles = torch.atan2(vertices[..., 1], vertices[..., 0])
    order = angles.masked_fill(~mask, torch.inf).argsort(dim=-1, stable=True)[..., :9]
    count = num_valid.unsqueeze(-1).clamp(max=8)
    place = torch.arange(9, device=vertices.device).expand_as(order)
    # the first point of all that is not valid: there are more than eight points where edges meet
    nothing = _INTERSECTIONS + mask[..., _INTERSECTIONS:].int().argmin(dim=-1, keepdim=True)
    order = torch.where(place == count, order[..., :1], order)
    return torch.where((place > count) | (count < 3), nothing, order).int()


# -- pooling ---------------------------------------------------------------------------------------


def _pooled(features, rois, bins, scale, sampling_ratio, aligned, clockwise):
    """Indices of regions, and their pooled features (R_i, C, *bins), image by image."""
    dtype = torch.promote_types(features.dtype, torch.float32)
    image, boxes = rois[:, 0].long(), rois[:, 1:].to(dtype)
    centre = boxes[:, :2] * scale - (0.5 if aligned else 0.0)
    size = boxes[:, 2:4] * scale
    if not aligned:
        size = size.clamp(min=1)
    angle = -boxes[:, 4] if clockwise else boxes[:, 4]
    wanted = torch.tensor(bins[::-1], device=rois.device)
    samples = (
        torch.full_like(size, sampling_ratio)
        if sampling_ratio > 0
        else (size / wanted).ceil().clamp(min=1)
    ).long()
    keys = torch.cat([image[:, None], samples], 1)
    for key in keys.unique(dim=0):
        index = (keys == key).all(1).nonzero().flatten()
        b, columns, rows = key.tolist()
        grid = _samples(centre[index], size[index], angle[index], bins, (rows, columns))
        values = _bilinear(features[b].to(dtype), grid)
        shape = (len(index), features.size(1), bins[0], rows, bins[1], columns)
        yield index, values.view(shape).mean((3, 5))


def _samples(centre, size, angle, bins, samples) -> Tensor:
    """Places (R, rows, columns, 2), x and y in cells."""
    count = [n * s for n, s in zip(bins, samples)]
    y, x = ((torch.arange(n, device=size.device) + 0.5) / n - 0.5 for n in count)
    x = x.to(size.dtype)[None, None] * size[:, None, :1]
    y = y.to(size.dtype)[None, :, None] * size[:, None, 1:]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    places = torch.stack([y * sin + x * cos, y * cos - x * sin], -1)
    return places + centre[:, None, None]


def _bilinear(features: Tensor, places: Tensor) -> Tensor:
    """Features (C, H, W) at places (R, h, w, 2): (R, C, h, w); nothing beyond a cell outside."""
    height, width = features.shape[1:]
    limits = torch.tensor([width, height], dtype=places.dtype, device=places.device)
    near = ((places >= -1) & (places <= limits)).all(-1)
    grid = (places + 0.5) * 2 / limits - 1
    flat = F.grid_sample(
        features[None], grid.flatten(0, 1)[None], padding_mode="border", align_corners=False
    )
    out = flat.view(len(features), *places.shape[:3]).transpose(0, 1)
    return out * near[:, None]
