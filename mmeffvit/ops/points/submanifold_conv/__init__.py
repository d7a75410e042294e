"""Sub-manifold sparse convolutions (arXiv 1711.10275): the occupied voxels stay what they are."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.points.submanifold_conv.fused import (
    depthwise_submanifold_conv3d_fused,
    submanifold_conv3d_fused,
)
from mmeffvit.ops.points.submanifold_conv.reference import (
    depthwise_submanifold_conv3d_reference,
    submanifold_conv3d_reference,
)

__all__ = ["depthwise_submanifold_conv3d", "submanifold_conv3d"]

dispatch.register("submanifold_conv3d", "fused", submanifold_conv3d_fused)
dispatch.register("submanifold_conv3d", "reference", submanifold_conv3d_reference)
dispatch.register("depthwise_submanifold_conv3d", "fused", depthwise_submanifold_conv3d_fused)
dispatch.register(
    "depthwise_submanifold_conv3d", "reference", depthwise_submanifold_conv3d_reference
)


def _check(x: Tensor, weight: Tensor, neighbours: Tensor, in_channels: int) -> None:
    if weight.dim() != 5 or tuple(weight.shape[1:4]) != (3, 3, 3):
        raise ValueError(
            f"the weight must be (C_out, 3, 3, 3, C_in), got the shape {tuple(weight.shape)}"
        )
    if x.dim() != 2 or x.shape[1] != in_channels:
        raise ValueError(
            f"the weight {tuple(weight.shape)} takes features (N, {in_channels}), got "
            f"{tuple(x.shape)}"
        )
    if tuple(neighbours.shape) != (len(x), 27):
        raise ValueError(
            f"{len(x)} voxels need a table ({len(x)}, 27) of their neighbours, got "
            f"{tuple(neighbours.shape)}"
        )


def submanifold_conv3d(
    x: Tensor, weight: Tensor, neighbours: Tensor, *, implementation: str | None = None
) -> Tensor:
    """3x3x3 cross-correlation on the occupied voxels alone; empty neighbours count as zero.

    Args:
        x: (N, C_in) features of the voxels.
        weight: (C_out, 3, 3, 3, C_in), spatial axes in the order of the cells.
        neighbours: (N, 27) of `sparse_neighbours`.
        implementation: 'fused' or 'reference'; see `mmeffvit.ops.dispatch`.

    Returns:
        (N, C_out).

    Raises:
        ValueError: The shapes do not fit.
    """
    _check(x, weight, neighbours, weight.shape[-1])
    return dispatch.run("submanifold_conv3d", implementation, x, weight, neighbours)


def depthwise_submanifold_conv3d(
    x: Tensor, weight: Tensor, neighbours: Tensor, *, implementation: str | None = None
) -> Tensor:
    """The same with one 3x3x3 kernel per channel.

    Args:
        x: (N, C) features of the voxels.
        weight: (C, 3, 3, 3, 1).
        neighbours: (N, 27) of `sparse_neighbours`.
        implementation: 'fused' or 'reference'; see `mmeffvit.ops.dispatch`.

    Returns:
        (N, C).

    Raises:
        ValueError: The shapes do not fit.
    """
    _check(x, weight, neighbours, weight.shape[0])
    return dispatch.run("depthwise_submanifold_conv3d", implementation, x, weight, neighbours)
