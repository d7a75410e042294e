"""What a centre head is trained to say (CenterPoint, arXiv 2006.11275; CornerNet, 1808.01244)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.points import segment_places


@dataclass(frozen=True)
class CenterTargets:
    """Heat maps, and K slots for the objects of every sample, class after class.

    Attributes:
        heatmap: (B, classes, H, W), 1 at the centres of objects.
        anno_box: (B, K, 10): offset from the corner of the cell (x, y), z of the middle, logarithms
            of the sides, sine and cosine of the yaw, velocity (x, y); 0 where the mask is False.
        ind: (B, K) int64 cells, y * W + x.
        mask: (B, K) bool, the slots that hold an object with its centre on the map.
        boxes: (B, K, 7) the boxes, z in the middle.
    """

    heatmap: Tensor
    anno_box: Tensor
    ind: Tensor
    mask: Tensor
    boxes: Tensor


def gaussian_radius(height: Tensor, width: Tensor, min_overlap: float) -> Tensor:
    """Radius within which a moved centre still gives a box of this overlap, as published.

    The published formulas divide by 2 where the roots of their equations would need 2a.

    Args:
        height: Sides of boxes, in cells.
        width: The same of the other sides.
        min_overlap: Intersection over union.
    """
    total, area = height + width, height * width
    radii = []
    for b, ac in (
        (total, (1 - min_overlap) / (1 + min_overlap) * area),
        (2 * total, 4 * (1 - min_overlap) * area),
        (-2 * min_overlap * total, 4 * min_overlap * (min_overlap - 1) * area),
    ):
        radii.append((b + (b.square() - 4 * ac).clamp_min(0).sqrt()) / 2)
    return torch.stack(radii).amin(0)


def center_targets(
    gt_boxes: Sequence[Tensor],
    gt_labels: Sequence[Tensor],
    num_classes: int,
    map_size: tuple[int, int],
    cell_size: tuple[float, float],
    origin: tuple[float, float],
    min_overlap: float = 0.1,
    min_radius: int = 1,
    max_objs: int = 500,
) -> CenterTargets:
    """Targets of a batch.

    An object whose centre is not on the map, or with a side that is not positive, keeps its slot
    but is masked.

    Args:
        gt_boxes: Per sample (n, 7 or 9): x, y, z of the bottom, dx, dy, dz, yaw, velocity x and y.
        gt_labels: Per sample (n) classes; objects of others are left out.
        num_classes: Number of classes.
        map_size: Cells (W, H) along x and y.
        cell_size: Sides of a cell along x and y, in metres.
        origin: Lowest x and y of the map, in metres.
        min_overlap: See :func:`gaussian_radius`.
        min_radius: Smallest radius of an object on the heat map, in cells.
        max_objs: Slots K of a sample; objects beyond them are left out.

    Raises:
        ValueError: The lists or boxes do not fit, or boxes are not finite.
    """
    _check(gt_boxes, gt_labels)
    boxes, labels, sample, slot = _by_class(gt_boxes, gt_labels, num_classes)
    width, height = map_size
    size = boxes.new_tensor(cell_size)
    centre = (boxes[:, :2] - boxes.new_tensor(origin)) / size
    cell = centre.floor()
    on_map = ((cell >= 0) & (cell < cell.new_tensor((width, height)))).all(1)
    use = on_map & (boxes[:, 3:6] > 0).all(1) & (slot < max_objs)
    boxes, labels, sample, slot = boxes[use], labels[use], sample[use], slot[use]
    centre, cell = centre[use], cell[use].long()

    x, y = cell.unbind(1)
    sides = boxes[:, 3:5] / size
    radius = gaussian_radius(sides[:, 1], sides[:, 0], min_overlap).long().clamp_min(min_radius)
    heatmap = boxes.new_zeros(len(gt_boxes), num_classes, height, width)
    _draw(heatmap.view(-1, height, width), sample * num_classes + labels, x, y, radius)

    def in_slots(rows: Tensor) -> Tensor:
        out = rows.new_zeros(len(gt_boxes), max_objs, *rows.shape[1:])
        out[sample, slot] = rows
        return out

    boxes[:, 2] += boxes[:, 5] / 2
    yaw = boxes[:, 6:7]
    values = (centre - cell, boxes[:, 2:3], boxes[:, 3:6].log(), yaw.sin(), yaw.cos(), boxes[:, 7:])
    return CenterTargets(
        heatmap,
        in_slots(torch.cat(values, dim=1)),
        in_slots(y * width + x),
        in_slots(torch.ones_like(x, dtype=torch.bool)),
        in_slots(boxes[:, :7]),
    )


def _by_class(
    gt_boxes: Sequence[Tensor], gt_labels: Sequence[Tensor], num_classes: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Objects (n, 9) of all samples, with their labels, samples, and places in their sample.

    They lie sample by sample, class by class.
    """
    boxes = torch.cat([F.pad(own.float(), (0, 9 - own.shape[1])) for own in gt_boxes])
    labels = torch.cat([own.long() for own in gt_labels])
    counts = torch.tensor([len(own) for own in gt_boxes])
    sample = torch.repeat_interleave(counts).to(boxes.device)
    known = (labels >= 0) & (labels < num_classes)
    boxes, labels, sample = boxes[known], labels[known], sample[known]
    order = (sample * num_classes + labels).argsort(stable=True)
    _, place = segment_places(torch.bincount(sample))
    return boxes[order], labels[order], sample[order], place


def _check(gt_boxes: Sequence[Tensor], gt_labels: Sequence[Tensor]) -> None:
    if len(gt_boxes) != len(gt_labels) or not gt_boxes:
        raise ValueError(
            f"every sample needs boxes and labels, got {len(gt_boxes)} and {len(gt_labels)}"
        )
    for i, (boxes, labels) in enumerate(zip(gt_boxes, gt_labels)):
        if boxes.dim() != 2 or boxes.shape[1] not in (7, 9) or labels.shape != boxes.shape[:1]:
            raise ValueError(
                f"sample {i} needs boxes (n, 7 or 9) and labels (n), got {tuple(boxes.shape)} and "
                f"{tuple(labels.shape)}"
            )
        if not bool(boxes.isfinite().all()):
            raise ValueError(f"sample {i} has boxes with NaN or infinite numbers")


def _draw(maps: Tensor, index: Tensor, x: Tensor, y: Tensor, radius: Tensor) -> None:
    """Put the largest of all Gaussians, cut to squares, onto maps (P, H, W) in place."""
    _, height, width = maps.shape
    side = 2 * radius + 1
    owner, place = segment_places(side.square())
    dx, dy = place % side[owner] - radius[owner], place // side[owner] - radius[owner]
    sigma = side[owner] / 6
    heat = torch.exp(-(dx.square() + dy.square()) / (2 * sigma.square()))
    x, y = x[owner] + dx, y[owner] + dy
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    cells = ((index[owner] * height + y) * width + x)[inside]
    maps.view(-1).scatter_reduce_(0, cells, heat[inside], "amax")
