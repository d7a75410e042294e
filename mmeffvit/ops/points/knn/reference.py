"""Every query against every point of its sample."""

from __future__ import annotations

import torch
from torch import Tensor

#: distance of a neighbour that a sample does not have: the square root of the kernel's 1e10
MISSING_DISTANCE = 1e5
#: pairs of a query and a point that are looked at together
CHUNK_PAIRS = 2**20


def distance_keys(squared: Tensor, rows: Tensor) -> Tensor:
    """int64 keys in the order of (distance, row): positive floats sort like their bits.

    Args:
        squared: (...) float32 squared distances, or infinity.
        rows: (...) int64 rows below 2**31.
    """
    return (squared.contiguous().view(torch.int32).long() << 32) | rows


def split_keys(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and distances of :func:`distance_keys`."""
    squared = (keys >> 32).int().view(torch.float32)
    return keys & 0x7FFFFFFF, squared.sqrt()


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Sum of squares of the differences: no cancellation far from the origin."""
    return (a - b).square().sum(-1)


def knn_reference(
    xyz: Tensor, offset: Tensor, new_xyz: Tensor, new_offset: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """See :func:`mmeffvit.ops.points.knn`."""
    index = torch.empty((len(new_xyz), k), dtype=torch.int64, device=xyz.device)
    distance = torch.full((len(new_xyz), k), MISSING_DISTANCE, device=xyz.device)
    ends, new_ends = offset.tolist(), new_offset.tolist()
    for start, end, first, last in zip([0, *ends], ends, [0, *new_ends], new_ends):
        index[first:last] = start
        rows = torch.arange(start, end, device=xyz.device)
        found = min(k, end - start)
        step = max(1, CHUNK_PAIRS // max(1, end - start))
        for query in range(first, last, step):
            part = slice(query, min(query + step, last))
            squared = squared_distances(new_xyz[part, None], xyz[None, start:end])
            keys = distance_keys(squared, rows.expand_as(squared)).topk(found, largest=False)[0]
            index[part, :found], distance[part, :found] = split_keys(keys)
    return index, distance
