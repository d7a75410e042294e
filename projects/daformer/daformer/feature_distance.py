"""How far features of things have moved from where they began (arXiv 2111.14887, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def downscaled_labels(
    labels: Tensor, factor: int, num_classes: int, min_share: float = 0.75, ignore_index: int = 255
) -> Tensor:
    """The class that fills most of each cell of a coarse map.

    Args:
        labels: (B, H, W), int64.
        factor: Side of the cells, in pixels; what is left over at the right and below is dropped.
        num_classes: K.
        min_share: Of a cell that its class must fill at least; of its other cells nothing is said.
        ignore_index: Label of pixels and cells of which nothing is known.

    Returns:
        (B, H // factor, W // factor), int64.
    """
    known = torch.where(labels == ignore_index, num_classes, labels)
    shares = F.avg_pool2d(F.one_hot(known, num_classes + 1).movedim(-1, 1).float(), factor)
    share, winner = shares.max(1)
    unknown = (share < min_share) | (winner == num_classes)
    return winner.masked_fill(unknown, ignore_index)


def feature_distance(features: Tensor, start: Tensor, cells: Tensor) -> Tensor:
    """Mean length of the difference of two maps (B, C, h, w), over cells (B, h, w), bool.

    No cell at all gives 0.
    """
    lengths = (features - start).norm(dim=1)
    return (lengths * cells).sum() / cells.sum().clamp(min=1)


def thing_cells(
    labels: Tensor,
    size: Sequence[int],
    num_classes: int,
    thing_classes: Sequence[int],
    min_share: float = 0.75,
    ignore_index: int = 255,
) -> Tensor:
    """Which cells of a map of `size` things fill: (B, *size), bool; `labels` are (B, H, W).

    Cells at the right and below that the labels do not fill belong to no thing.
    """
    factor = labels.shape[-1] // size[-1]
    coarse = downscaled_labels(labels, factor, num_classes, min_share, ignore_index)
    things = torch.isin(coarse, torch.tensor(thing_classes, device=labels.device))
    height, width = size
    things = things[:, :height, :width]
    return F.pad(things, (0, width - things.shape[2], 0, height - things.shape[1]))
