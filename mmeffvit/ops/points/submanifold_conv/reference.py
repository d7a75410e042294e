"""The formula: gather 27 neighbours of every voxel, multiply, add."""

from __future__ import annotations

import torch
from torch import Tensor


def _gathered(x: Tensor, neighbours: Tensor) -> Tensor:
    """(N, C) -> (N, 27, C), zeros for empty voxels."""
    return torch.cat((x, x.new_zeros(1, x.shape[1])))[neighbours]


def submanifold_conv3d_reference(x: Tensor, weight: Tensor, neighbours: Tensor) -> Tensor:
    """See :func:`mmeffvit.ops.points.submanifold_conv3d`."""
    return torch.einsum("nkc,okc->no", _gathered(x, neighbours), weight.flatten(1, 3))


def depthwise_submanifold_conv3d_reference(x: Tensor, weight: Tensor, neighbours: Tensor) -> Tensor:
    """See :func:`mmeffvit.ops.points.depthwise_submanifold_conv3d`."""
    return torch.einsum("nkc,ck->nc", _gathered(x, neighbours), weight.flatten(1))
