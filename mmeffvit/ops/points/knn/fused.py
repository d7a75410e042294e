"""Nearest neighbours through a grid: the cost grows with the points, not with their square."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops.points.batches import offset_to_batch
from mmeffvit.ops.points.cells import CellKeys
from mmeffvit.ops.points.knn.reference import (
    CHUNK_PAIRS,
    MISSING_DISTANCE,
    distance_keys,
    knn_reference,
    split_keys,
    squared_distances,
)

_NONE = torch.iinfo(torch.int64).max
#: grids that are tried, each with cubes twice as large, before all points are looked at
_GRIDS = 24


def knn_fused(
    xyz: Tensor, offset: Tensor, new_xyz: Tensor, new_offset: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """See :func:`mmeffvit.ops.points.knn`.

    Points are sorted into cubes; a query looks at its own and the 26 around it. What it finds is
    right if the k-th neighbour is nearer than the faces of that block of cubes. The queries for
    which it is not try again with cubes twice as large.
    """
    if len(new_xyz) == 0:
        return knn_reference(xyz, offset, new_xyz, new_offset, k)
    batch, new_batch = offset_to_batch(offset), offset_to_batch(new_offset)
    counts = offset.diff(prepend=offset.new_zeros(1))
    origin = torch.minimum(xyz.amin(0), new_xyz.amin(0))
    extent = float((torch.maximum(xyz.amax(0), new_xyz.amax(0)) - origin).max())

    # what pointops gives for neighbours that are not there
    index = (offset - counts)[new_batch][:, None].repeat(1, k)
    distance = new_xyz.new_full((len(new_xyz), k), MISSING_DISTANCE)
    side = _side(xyz - origin, batch, extent, k)
    left = torch.arange(len(new_xyz), device=xyz.device)
    for _ in range(_GRIDS):
        grid = _Grid(xyz, batch, origin, side)
        keys, reach = grid.search(new_xyz[left], new_batch[left], k)
        # the reach is short of the faces by what rounding may have moved a point
        reach = reach - 4 * torch.finfo(xyz.dtype).eps * extent
        size = counts[new_batch[left]]
        farthest = keys.gather(1, size.clamp_max(k)[:, None] - 1)[:, 0]
        certain = split_keys(farthest)[1] < reach
        certain = (farthest != _NONE) & (certain | (size <= k))
        done, keys = left[certain], keys[certain]
        rows, distances = split_keys(keys)
        index[done] = torch.where(keys == _NONE, index[done], rows)
        distance[done] = torch.where(keys == _NONE, distance[done], distances)
        left = left[~certain]
        if len(left) == 0:
            return index, distance
        side *= 2
    left_offset = torch.bincount(new_batch[left], minlength=len(offset)).cumsum(0)
    index[left], distance[left] = knn_reference(xyz, offset, new_xyz[left], left_offset, k)
    return index, distance


def _side(xyz: Tensor, batch: Tensor, extent: float, k: int) -> float:
    """Side of cubes that hold about k points each where there are any."""
    side = extent or 1.0
    for _ in range(8):
        occupied = len(torch.unique(CellKeys(_cubes(xyz, batch, side)).keys))
        per_cube = len(xyz) / occupied
        if per_cube <= 2 * k or side < extent * 1e-6:
            break
        # points on surfaces: their number in a cube grows with the square of its side
        side *= max((k / per_cube) ** 0.5, 1 / 64)
    return side


def _cubes(xyz: Tensor, batch: Tensor, side: float) -> Tensor:
    """(N, 4) int64 of (batch, z, y, x)."""
    return torch.cat((batch[:, None], (xyz / side).floor().long().flip(1)), dim=1)


class _Grid:
    """Points sorted by cube, x fastest: three cubes in a row along x are one range of points."""

    def __init__(self, xyz: Tensor, batch: Tensor, origin: Tensor, side: float):
        self.xyz, self.origin, self.side = xyz, origin, side
        cubes = _cubes(xyz - origin, batch, side)
        self.table = CellKeys(cubes)
        self.keys, self.order = self.table.keys.sort()
        self.x_range = int(cubes[:, 3].min()), int(cubes[:, 3].max())

    def search(self, queries: Tensor, batch: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The nearest points in the 27 cubes around each query.

        Returns:
            (Q, k) int64 distance keys in ascending order, `_NONE` where there are fewer, and (Q)
            the distance up to which nothing can have been missed.
        """
        local = queries - self.origin
        cubes = _cubes(local, batch, self.side)
        first, length = self._ranges(cubes)
        total = length.sum(1)
        inside = local / self.side - cubes[:, [3, 2, 1]]
        reach = self.side * (1 + torch.minimum(inside, 1 - inside).amin(1))

        found = torch.full((len(queries), k), _NONE, device=queries.device)
        # queries with equally many candidates together: little padding
        by_total = total.argsort(descending=True)
        start = 0
        while start < len(queries):
            width = int(total[by_total[start]])
            if width == 0:
                break
            part = by_total[start : start + max(1, CHUNK_PAIRS // width)]
            start += len(part)
            keys = self._distance_keys(queries[part], first[part], length[part], width)
            keys = keys.topk(min(k, width), largest=False)[0]
            found[part, : keys.shape[1]] = keys
        return found, reach

    def _ranges(self, cubes: Tensor) -> tuple[Tensor, Tensor]:
        """First of the sorted points, and number of points, in each of the 9 rows of 3 cubes."""
        firsts, lengths = [], []
        for dz in (-1, 0, 1):
            for dy in (-1, 0, 1):
                limits = []
                for dx, right in ((-1, False), (1, True)):
                    rows = cubes + cubes.new_tensor((0, dz, dy, dx))
                    rows[:, 3].clamp_(*self.x_range)
                    keys, possible = self.table.of(rows)
                    limits.append(torch.searchsorted(self.keys, keys, right=right))
                firsts.append(limits[0])
                lengths.append(torch.where(possible, limits[1] - limits[0], 0))
        return torch.stack(firsts, 1), torch.stack(lengths, 1)

    def _distance_keys(self, queries: Tensor, first: Tensor, length: Tensor, width: int) -> Tensor:
        """(Q, width) keys of all candidates, `_NONE` after the last one of a query."""
        ends = length.cumsum(1)
        place = torch.arange(width, device=queries.device).repeat(len(queries), 1)
        part = torch.searchsorted(ends, place, right=True).clamp_(max=8)
        rows = (first - ends + length).gather(1, part) + place
        there = place < ends[:, -1:]
        rows = self.order[torch.where(there, rows, 0)]
        keys = distance_keys(squared_distances(queries[:, None], self.xyz[rows]), rows)
        return torch.where(there, keys, _NONE)
