"""Rotated boxes: corners, overlap of pairs, greedy choices, and the points inside.

Boxes in the plane are (x, y, dx, dy, yaw), metres and radians; boxes in space are (x, y, z, dx, dy,
dz, yaw) with z in the middle. yaw 0 points along +x and grows towards +y, as in mmdet3d from 1.0
on.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

#: pairs whose polygons are made at once
_CHUNK = 2**17
#: a corner on an edge counts as inside, up to this share of the side
_TOLERANCE = 1e-9

_Angle = TypeVar("_Angle", float, np.ndarray, Tensor)
_Boxes = TypeVar("_Boxes", np.ndarray, Tensor)


def wrap_angle(angle: _Angle) -> _Angle:
    """Angles in radians to the same in [-pi, pi).

    >>> round(wrap_angle(4.0), 4)
    -2.2832
    """
    return (angle + math.pi) % (2 * math.pi) - math.pi


def bev_boxes(boxes: _Boxes) -> _Boxes:
    """Boxes seen from above: (n, 7+) (x, y, z, dx, dy, dz, yaw, ...) to (n, 5)."""
    return boxes[:, [0, 1, 3, 4, 6]]


def box_corners(boxes: Tensor) -> Tensor:
    """Corners of boxes in the plane, (P, 5) to (P, 4, 2): counter-clockwise from the right rear."""
    signs = boxes.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    x, y = (signs * boxes[:, None, 2:4]).unbind(-1)
    cos, sin = boxes[:, 4:].cos(), boxes[:, 4:].sin()
    return torch.stack((cos * x - sin * y, sin * x + cos * y), dim=-1) + boxes[:, None, :2]


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether (P, n, 2) points lie in (P, 5) boxes, edges included."""
    x, y = (points - boxes[:, None, :2]).unbind(-1)
    cos, sin = boxes[:, 4:].cos(), boxes[:, 4:].sin()
    own = torch.stack((cos * x + sin * y, cos * y - sin * x), dim=-1)
    return (own.abs() <= boxes[:, None, 2:4] * (0.5 + _TOLERANCE)).all(-1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _polygon_area(a: Tensor, b: Tensor) -> Tensor:
    """Area that two convex quadrilaterals share: corners inside the other one, and crossings."""
    corners_a, corners_b = box_corners(a), box_corners(b)
    edges_a, edges_b = (c.roll(-1, 1) - c for c in (corners_a, corners_b))
    r, s = edges_a[:, :, None], edges_b[:, None]
    between = corners_b[:, None] - corners_a[:, :, None]
    determinant = _cross(r, s)
    parallel = determinant.abs() <= _TOLERANCE * r.norm(dim=-1) * s.norm(dim=-1)
    determinant = torch.where(parallel, 1, determinant)
    t, u = _cross(between, s) / determinant, _cross(between, r) / determinant
    crosses = ~parallel & (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)
    crossings = corners_a[:, :, None] + t[..., None] * r
    points = torch.cat((corners_a, corners_b, crossings.flatten(1, 2)), dim=1)
    valid = torch.cat((_inside(corners_a, b), _inside(corners_b, a), crosses.flatten(1)), dim=1)
    # what is no corner of the polygon repeats one that is
    first = points.gather(1, valid.int().argmax(1)[:, None, None].expand(-1, -1, 2))
    points = torch.where(valid[..., None], points, first)
    middle = (points * valid[..., None]).sum(1) / valid.sum(1).clamp_min(1)[:, None]
    spokes = points - middle[:, None]
    order = torch.atan2(spokes[..., 1], spokes[..., 0]).argsort(1)
    spokes = spokes.gather(1, order[..., None].expand_as(spokes))
    area = _cross(spokes, spokes.roll(-1, 1)).sum(1) / 2
    return torch.where(valid.any(1), area, 0).clamp_min(0)


def rotated_overlap(a: Tensor, b: Tensor) -> Tensor:
    """Area that the boxes of each pair share.

    Args:
        a: (P, 5) boxes (x, y, dx, dy, yaw).
        b: (P, 5) the same.

    Returns:
        (P) square metres, computed in float64 without gradients.

    Raises:
        ValueError: The shapes are others.
    """
    if a.shape != b.shape or a.dim() != 2 or a.shape[1] != 5:
        raise ValueError(
            "pairs of boxes must be two tensors (P, 5) of (x, y, dx, dy, yaw), got "
            f"{tuple(a.shape)} and {tuple(b.shape)}"
        )
    with torch.no_grad():
        a, b = a.double(), b.double()
        # far from the origin, differences keep the digits
        a, b = (torch.cat((box[:, :2] - a[:, :2], box[:, 2:]), dim=1) for box in (a, b))
        chunks = zip(a.split(_CHUNK), b.split(_CHUNK))
        return torch.cat([_polygon_area(x, y) for x, y in chunks]) if len(a) else a[:, 0]


def rotated_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each pair of boxes in the plane: (P, 5) twice to (P) float64."""
    shared = rotated_overlap(a, b)
    areas = (a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3]).double()
    return shared / (areas - shared).clamp_min(1e-12)


def rotated_iou_3d(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each pair of boxes in space: (P, 7) twice to (P) float64."""
    area = rotated_overlap(bev_boxes(a), bev_boxes(b))
    a, b = a.double(), b.double()
    top = torch.minimum(a[:, 2] + a[:, 5] / 2, b[:, 2] + b[:, 5] / 2)
    bottom = torch.maximum(a[:, 2] - a[:, 5] / 2, b[:, 2] - b[:, 5] / 2)
    shared = area * (top - bottom).clamp_min(0)
    volumes = a[:, 3:6].prod(1) + b[:, 3:6].prod(1)
    return shared / (volumes - shared).clamp_min(1e-12)


def rotated_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression of boxes in the plane.

    A box goes if one with a higher score, which stays, overlaps it by more than the threshold. Only
    pairs near each other are looked at.

    Args:
        boxes: (K, 5) boxes (x, y, dx, dy, yaw).
        scores: (K) scores; of equal ones the first row goes first.
        iou_threshold: Overlap above which the lower score goes.

    Returns:
        Rows that stay, int64, by falling score.

    Raises:
        ValueError: The shapes are others.
    """
    if boxes.dim() != 2 or boxes.shape[1] != 5 or scores.shape != boxes.shape[:1]:
        raise ValueError(
            "boxes must be (K, 5), (x, y, dx, dy, yaw), with (K) scores, got "
            f"{tuple(boxes.shape)} and {tuple(scores.shape)}"
        )
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    high, low = near_pairs(boxes, boxes)
    later = low > high
    high, low = high[later], low[later]
    over = rotated_iou(boxes[high], boxes[low]) > iou_threshold
    return order[greedy_keep(high[over], low[over], len(boxes))]


def greedy_keep(first: Tensor, second: Tensor, count: int) -> Tensor:
    """What stays if a row goes whenever one before it, which stays, is against it.

    All rows are decided together, again until nothing changes; chains are short.

    Args:
        first: (P) int64 rows.
        second: (P) int64, the row that each is against; it comes after it.
        count: Rows K.

    Returns:
        (K) bool.
    """
    keep = torch.ones(count, dtype=torch.bool, device=first.device)
    while True:
        goes = torch.zeros_like(keep).index_put((second[keep[first]],), keep.new_tensor(True))
        # the greedy answer is the only one that this step leaves as it is
        if torch.equal(keep, ~goes):
            return keep
        keep = ~goes


def greedy_matches(rows: Tensor, cols: Tensor, overlap: Tensor, count: int) -> Tensor:
    """Each row, in their order, takes the free column that it overlaps most.

    Args:
        rows: (P) int64 of pairs that may match.
        cols: (P) int64; of columns that overlap equally, the pair that comes first is taken.
        overlap: (P) of the pairs.
        count: Rows K.

    Returns:
        (K) int64 column of every row, -1 where none is.
    """
    order = overlap.argsort(descending=True, stable=True)
    order = order[rows[order].argsort(stable=True)]
    matches, taken = [-1] * count, set()
    for row, col in zip(rows[order].tolist(), cols[order].tolist()):
        if matches[row] < 0 and col not in taken:
            matches[row] = col
            taken.add(col)
    return torch.tensor(matches, dtype=torch.int64)


def near_pairs(a: Tensor, b: Tensor, rows: int = 1024) -> tuple[Tensor, Tensor]:
    """Pairs of boxes whose circles around them meet: all others share nothing.

    Args:
        a: (K, 5) boxes (x, y, dx, dy, yaw).
        b: (n, 5) the same.
        rows: Boxes of `a` that are compared with all of `b` at once.

    Returns:
        Rows of `a` and rows of `b`, (P) int64 each, by rising row of `a`, then of `b`.
    """
    reach_b = b[:, 2:4].norm(dim=1) / 2
    firsts, seconds = [], []
    for index, part in enumerate(a.split(rows)):
        apart = part[:, None, :2] - b[:, :2]
        reach = part[:, 2:4].norm(dim=1)[:, None] / 2 + reach_b
        first, second = (apart.square().sum(-1) <= reach.square()).nonzero().unbind(1)
        firsts.append(first + index * rows)
        seconds.append(second)
    return torch.cat(firsts), torch.cat(seconds)


def points_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Which points lie in which boxes, faces included.

    Args:
        points: (N, 3), further columns are not looked at.
        boxes: (n, 7) boxes (x, y, z, dx, dy, dz, yaw), z in the middle.

    Returns:
        (N, n) bool.

    Raises:
        ValueError: The shapes are others.
    """
    if points.dim() != 2 or points.shape[1] < 3 or boxes.dim() != 2 or boxes.shape[1] != 7:
        raise ValueError(
            "points must be (N, 3) and boxes (n, 7), (x, y, z, dx, dy, dz, yaw), got "
            f"{tuple(points.shape)} and {tuple(boxes.shape)}"
        )
    inside = torch.zeros(len(points), len(boxes), dtype=torch.bool, device=points.device)
    step = max(1, _CHUNK * 16 // max(len(points), 1))
    for start in range(0, len(boxes), step):
        part = boxes[start : start + step]
        x, y, z = (points[:, None, :3] - part[:, :3]).unbind(-1)
        cos, sin = part[:, 6].cos(), part[:, 6].sin()
        half = part[:, 3:6] / 2
        inside[:, start : start + step] = (
            ((cos * x + sin * y).abs() <= half[:, 0])
            & ((cos * y - sin * x).abs() <= half[:, 1])
            & (z.abs() <= half[:, 2])
        )
    return inside


def boxes_from_mmdet3d_v0(boxes: Tensor) -> Tensor:
    """Boxes of mmdet3d before 1.0 to those from 1.0 on.

    Args:
        boxes: (K, 7+) (x, y, z, w, l, h, yaw, ...), yaw 0 along -y and growing towards -x.

    Returns:
        (K, 7+) (x, y, z, l, w, h, yaw, ...), yaw 0 along +x and growing towards +y, in [-pi, pi).
    """
    yaw = wrap_angle(-boxes[:, 6:7] - torch.pi / 2)
    return torch.cat((boxes[:, [0, 1, 2, 4, 3, 5]], yaw, boxes[:, 7:]), dim=1)
