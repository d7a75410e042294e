"""Furthest point sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops.points.batches import check_offset, check_points
from mmeffvit.ops.points.segments import segment_places


@torch.no_grad()
def furthest_point_sampling(xyz: Tensor, offset: Tensor, new_offset: Tensor) -> Tensor:
    """Pick points one by one, each the farthest from those already picked.

    Starts at the first point of every sample. Each pick depends on the one before, so the picks are
    a loop; samples are handled together. Of equally far points the first one is picked.

    Args:
        xyz: (N, 3) points.
        offset: (B) ends of the samples.
        new_offset: (B) ends of the samples among the picked points.

    Returns:
        (new_offset[-1]) int64 rows of `xyz`, sample by sample.

    Raises:
        ValueError: A sample is empty or has fewer points than are to be picked.
    """
    check_points(xyz)
    ends = check_offset(offset, len(xyz))
    picked_total = int(new_offset[-1]) if len(new_offset) else 0
    new_ends = check_offset(new_offset, picked_total, "new_offset", allow_empty=True)
    counts = [b - a for a, b in zip([0, *ends], ends)]
    picks = [b - a for a, b in zip([0, *new_ends], new_ends)]
    if len(counts) != len(picks) or any(p > c for p, c in zip(picks, counts)):
        raise ValueError(f"cannot pick {picks} points out of samples of {counts} points")
    # samples padded to one length; padding is never the farthest
    counted = torch.tensor(counts, dtype=torch.int64, device=xyz.device)
    batch, column = segment_places(counted)
    points = xyz.new_zeros((len(counts), max(counts, default=0), 3))
    points[batch, column] = xyz
    nearest = xyz.new_full(points.shape[:2], -1.0)
    nearest[batch, column] = 1e10  # the kernel's initial squared distance
    samples = torch.arange(len(counts), device=xyz.device)
    last, picked = torch.zeros_like(samples), []
    for _ in range(max(picks, default=0)):
        picked.append(last)
        squared = (points - points[samples, last][:, None]).square().sum(-1)
        nearest = torch.minimum(nearest, squared)
        last = nearest.argmax(1)
    if not picked:
        return column[:0]
    rows = torch.stack(picked, 1) + (offset.long() - counted)[:, None]
    steps = torch.arange(rows.shape[1], device=xyz.device)
    return rows[steps < torch.tensor(picks, device=xyz.device)[:, None]]
