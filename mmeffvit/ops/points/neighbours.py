"""The 27 neighbours of occupied voxels, for sub-manifold sparse convolutions."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops.points.cells import CellKeys, find_sorted


def kernel_offsets(device: torch.device | str = "cpu") -> Tensor:
    """(27, 3) offsets of a 3x3x3 kernel, the last axis fastest; number 26 - k is opposite to k."""
    axis = torch.arange(-1, 2, device=device)
    return torch.cartesian_prod(axis, axis, axis)


def sparse_neighbours(cells: Tensor) -> Tensor:
    """Rows of the voxels around every voxel.

    Args:
        cells: (N, 4) integers, (batch, x, y, z), every voxel once, in any order.

    Returns:
        (N, 27) int64: row of the voxel at offset k of :func:`kernel_offsets`, or N where none is.

    Raises:
        ValueError: A voxel is there twice, or the shape is another.
    """
    if cells.dim() != 2 or cells.shape[1] != 4:
        raise ValueError(
            f"cells must be (N, 4) of (batch, x, y, z), got the shape {tuple(cells.shape)}"
        )
    cells = cells.long()
    table = CellKeys(cells)
    keys, order = table.keys.sort()
    if bool((keys[1:] == keys[:-1]).any()):
        repeated = int((keys[1:] == keys[:-1]).sum())
        raise ValueError(
            f"{repeated} of {len(cells)} voxels are there more than once; keep one point of every "
            "voxel (voxelise each sample on its own)"
        )
    missing = len(cells)
    rows = torch.arange(missing, device=cells.device)
    neighbours = cells.new_full((missing, 27), missing)
    neighbours[:, 13] = rows
    # the neighbour relation is symmetric: half of the offsets give the others
    for k, offset in enumerate(kernel_offsets(cells.device)[:13]):
        shifted = torch.cat((cells[:, :1], cells[:, 1:] + offset), dim=1)
        wanted, possible = table.of(shifted)
        place, found = find_sorted(keys, wanted)
        found &= possible
        here, there = rows[found], order[place[found]]
        neighbours[here, k] = there
        neighbours[there, 26 - k] = here
    return neighbours
