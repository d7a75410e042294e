"""Sub-manifold sparse convolutions as modules; weights in spconv's layout (out, 3, 3, 3, in)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeffvit.ops.points import depthwise_submanifold_conv3d, submanifold_conv3d


class SubMConv3d(nn.Module):
    """3x3x3 convolution on occupied voxels, without a bias.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        implementation: Of `mmeffvit.ops.points.submanifold_conv3d`; None lets it choose.
    """

    def __init__(self, in_channels: int, out_channels: int, implementation: str | None = None):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.implementation = implementation
        self.weight = nn.Parameter(torch.empty(out_channels, 3, 3, 3, in_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = (self.in_channels * 27) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor, neighbours: Tensor) -> Tensor:
        """(N, C_in) features and the (N, 27) table of neighbours to (N, C_out)."""
        return submanifold_conv3d(x, self.weight, neighbours, implementation=self.implementation)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"


class DepthwiseSubMConv3d(nn.Module):
    """The same with one kernel per channel.

    Args:
        channels: Channels C.
        implementation: Of `mmeffvit.ops.points.depthwise_submanifold_conv3d`.
    """

    def __init__(self, channels: int, implementation: str | None = None):
        super().__init__()
        self.channels = channels
        self.implementation = implementation
        self.weight = nn.Parameter(torch.empty(channels, 3, 3, 3, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # the published code counts the fan of a dense kernel
        bound = (self.channels * 27) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor, neighbours: Tensor) -> Tensor:
        """(N, C) features and the (N, 27) table of neighbours to (N, C)."""
        return depthwise_submanifold_conv3d(
            x, self.weight, neighbours, implementation=self.implementation
        )

    def extra_repr(self) -> str:
        return f"{self.channels}"
