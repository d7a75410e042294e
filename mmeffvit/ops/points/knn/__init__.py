"""Nearest neighbours inside of samples, and interpolation between them."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.points.batches import check_offset, check_points
from mmeffvit.ops.points.knn.fused import knn_fused
from mmeffvit.ops.points.knn.reference import knn_reference

__all__ = ["interpolate", "knn"]

dispatch.register("knn", "fused", knn_fused)
dispatch.register("knn", "reference", knn_reference)


@torch.no_grad()
def knn(
    xyz: Tensor,
    offset: Tensor,
    new_xyz: Tensor,
    new_offset: Tensor,
    k: int,
    *,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The k nearest points of every query, out of its own sample, nearest first.

    Of equally far points the one of the lower row comes first. A sample with fewer than k points
    fills up with its first point at distance 1e5, as pointops does. There is no gradient. Distances
    are found in float32, from differences of coordinates, so far origins cost nothing beyond the
    rounding of the coordinates themselves.

    Args:
        xyz: (N, 3) points.
        offset: (B) ends of the samples in `xyz`.
        new_xyz: (Q, 3) queries.
        new_offset: (B) ends of the samples in `new_xyz`; a sample may have no queries.
        k: Neighbours of every query.
        implementation: 'fused' or 'reference'; see `mmeffvit.ops.dispatch`.

    Returns:
        (Q, k) int64 rows of `xyz`, and (Q, k) float32 Euclidean distances.

    Raises:
        ValueError: Coordinates are not finite, offsets and points disagree, a sample with queries
            has no points, or k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    check_points(xyz)
    check_points(new_xyz, "new_xyz")
    ends = check_offset(offset, len(xyz), allow_empty=True)
    new_ends = check_offset(new_offset, len(new_xyz), "new_offset", allow_empty=True)
    if len(ends) != len(new_ends):
        raise ValueError(
            f"offset has {len(ends)} samples and new_offset {len(new_ends)}; they must be the same"
        )
    for sample, span in enumerate(zip([0, *ends], ends, [0, *new_ends], new_ends)):
        if span[0] == span[1] and span[2] < span[3]:
            raise ValueError(f"sample {sample} has queries but no points to find")
    if len(xyz) and xyz.dtype == torch.float64:
        origin = xyz.amin(0)
        xyz, new_xyz = xyz - origin, new_xyz.double() - origin
    arguments = (xyz.float(), offset.long(), new_xyz.float(), new_offset.long(), k)
    return dispatch.run("knn", implementation, *arguments)


def interpolate(feats: Tensor, index: Tensor, distance: Tensor) -> Tensor:
    """Mean of the neighbours' features, weighted by ``1 / (distance + 1e-8)``.

    Differentiable in the features.

    Args:
        feats: (N, C) features of the points.
        index: (Q, k) int64 of :func:`knn`.
        distance: (Q, k) of :func:`knn`.

    Returns:
        (Q, C).
    """
    weight = 1 / (distance + 1e-8)
    weight = (weight / weight.sum(1, keepdim=True)).to(feats.dtype)
    gathered = feats.index_select(0, index.flatten()).view(*index.shape, -1)
    return torch.einsum("qkc,qk->qc", gathered, weight)
