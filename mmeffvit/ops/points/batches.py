"""Samples of different lengths in one tensor: offsets, sample numbers, and what is not allowed.

The points of B samples lie one sample after the other. ``offset`` (B) holds the end of each sample,
``batch`` (N) the sample of each point.
"""

from __future__ import annotations

import torch
from torch import Tensor


def check_offset(
    offset: Tensor, num_points: int, name: str = "offset", allow_empty: bool = False
) -> list[int]:
    """The ends of all samples as numbers, if they can be right.

    Args:
        offset: (B) integer, cumulative ends of the samples.
        num_points: Points N that the samples have together.
        name: What the error calls it.
        allow_empty: Let samples have no points.

    Raises:
        ValueError: The ends fall, the last one is not N, or a sample is empty.
        TypeError: They are not integers.
    """
    if offset.is_floating_point() or offset.dtype == torch.bool:
        raise TypeError(f"{name} must hold integers, the end of each sample, got {offset.dtype}")
    if offset.dim() != 1:
        raise ValueError(f"{name} must have one axis, (B,), got the shape {tuple(offset.shape)}")
    ends = offset.tolist()
    if (ends[-1] if ends else 0) != num_points:
        raise ValueError(
            f"{name} says that {len(ends)} samples have {ends[-1] if ends else 0} points together, "
            f"but there are {num_points}; it must hold the cumulative ends of the samples"
        )
    for sample, (start, end) in enumerate(zip([0, *ends], ends)):
        if end < start:
            raise ValueError(f"{name} must not fall, got {_some(ends)}")
        if end == start and not allow_empty:
            raise ValueError(
                f"sample {sample} has no points ({name} is {_some(ends)}); leave empty samples out"
            )
    return ends


def _some(numbers: list[int], count: int = 8) -> str:
    return f"{numbers[:count]}"[:-1] + (", ...]" if len(numbers) > count else "]")


def offset_to_batch(offset: Tensor) -> Tensor:
    """Sample of every point: ends (B) to (N) int64.

    >>> offset_to_batch(torch.tensor([2, 3])).tolist()
    [0, 0, 1]
    """
    return torch.repeat_interleave(offset.long().diff(prepend=offset.new_zeros(1).long()))


def batch_to_offset(batch: Tensor, num_samples: int | None = None) -> Tensor:
    """Ends of the samples from the sample of every point: (N) to (B) int64.

    Args:
        batch: (N) integer, not falling.
        num_samples: Samples B, where the last ones may be empty; found out if None.

    Raises:
        ValueError: The points of a sample are not together, or a number is not possible.
    """
    if len(batch) and bool((batch.diff() < 0).any()):
        raise ValueError(
            "the points of a sample must lie together, one sample after the other; sort the rows "
            "by their sample"
        )
    last = int(batch[-1]) if len(batch) else -1
    if num_samples is None:
        num_samples = last + 1
    if last >= num_samples or (len(batch) and int(batch[0]) < 0):
        raise ValueError(
            f"sample numbers must be in 0..{num_samples - 1}, got {int(batch[0])} to {last}"
        )
    return torch.bincount(batch, minlength=num_samples).cumsum(0)


def check_points(xyz: Tensor, name: str = "xyz", batch: Tensor | None = None) -> None:
    """Refuse what cannot be coordinates.

    Args:
        xyz: (N, 3) floating point.
        name: What the error calls them.
        batch: (N) sample of every point, or None.

    Raises:
        ValueError: The shape is another, or a coordinate is NaN or infinite.
        TypeError: They are not floating-point numbers.
    """
    if xyz.dim() != 2 or xyz.shape[1] != 3:
        raise ValueError(f"{name} must be (N, 3) coordinates, got the shape {tuple(xyz.shape)}")
    if not xyz.is_floating_point():
        raise TypeError(f"{name} must be floating-point coordinates, got {xyz.dtype}")
    if batch is not None and batch.shape != xyz.shape[:1]:
        raise ValueError(
            f"{name} has {len(xyz)} points, but there are {tuple(batch.shape)} sample numbers"
        )
    check_finite(xyz, name)


def check_voxels(
    feats: Tensor, coors: Tensor, channels: int, taker: str, row: str, order: str, note: str = ""
) -> None:
    """Refuse what cannot be features of voxels, or of points, and their places.

    Args:
        feats: (N, C) features.
        coors: (N, 4) integers.
        channels: Channels C that are wanted.
        taker: Who wants them; this and what follows is for the error.
        row: What a row is, such as 'voxel'.
        order: The columns of `coors`.
        note: On the channels.

    Raises:
        ValueError: A shape or a type is another.
    """
    if feats.dim() != 2 or feats.shape[1] != channels:
        raise ValueError(
            f"{taker} takes {row}s of the shape (N, {channels}){note}, got {tuple(feats.shape)}"
        )
    if tuple(coors.shape) != (len(feats), 4) or coors.is_floating_point():
        raise ValueError(
            f"{taker} takes one row of integers {order} per {row}, ({len(feats)}, 4), got "
            f"{tuple(coors.shape)} of {coors.dtype}"
        )


def check_pillars(
    feats: Tensor,
    coors: Tensor,
    channels: int,
    taker: str,
    batch_size: int,
    grid_size: tuple[int, int],
) -> Tensor:
    """Refuse what cannot be pillars of a grid, or is there twice.

    Args:
        feats: (N, C) features.
        coors: (N, 4) integers, (batch, z, y, x).
        channels: Channels C that are wanted.
        taker: Who wants them, for the error.
        batch_size: Samples.
        grid_size: Pillars along x and y.

    Returns:
        `coors` as int64.

    Raises:
        ValueError: A shape is another, or a pillar is outside or there twice.
        TypeError: `coors` are not integers.
    """
    if coors.is_floating_point() or coors.dtype == torch.bool:
        raise TypeError(f"coors must be integers (batch, z, y, x), got {coors.dtype}")
    check_voxels(feats, coors, channels, taker, "pillar", "(batch, z, y, x)")
    coors = coors.long()
    width, height = grid_size
    limits = coors.new_tensor((batch_size, height, width))
    batch_y_x = coors[:, [0, 2, 3]]
    outside = ((batch_y_x < 0) | (batch_y_x >= limits)).any(1)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise ValueError(
            f"{int(outside.sum())} pillars lie outside of {batch_size} samples of {width} x "
            f"{height} (x, y) pillars, the first is row {row}: (batch, z, y, x) = "
            f"{tuple(coors[row].tolist())}"
        )
    batch, y, x = batch_y_x.unbind(1)
    pillars = torch.unique((batch * height + y) * width + x)
    if len(pillars) < len(coors):
        raise ValueError(
            f"{len(coors) - len(pillars)} pillars are there more than once; reduce the points of a "
            "pillar before, with dynamic_scatter"
        )
    return coors


def check_finite(values: Tensor, name: str) -> None:
    """Raise a ValueError that counts the rows with a NaN or an infinity."""
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        rows = (~finite).flatten(1).any(1).nonzero().flatten()
        raise ValueError(
            f"{name} has NaN or infinite numbers in {len(rows)} of {len(values)} rows, the first "
            f"is row {int(rows[0])}; remove them before"
        )
