"""Positions of a map made of sines: nothing in them has the size of a map."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.ops.tables import cached_table


def sine_code(side: int, dim: int, device: torch.device) -> Tensor:
    """(side, dim) sines and cosines, in turn, of places that run from above 0 to 2 pi.

    Entry i of place t = 1 ... side is the sine, or for odd i the cosine, of ``2 pi t / (side +
    1e-6) / 10000^(2 floor(i / 2) / dim)``: any side has the same range.
    """
    place = 2 * math.pi * torch.arange(1, side + 1, device=device) / (side + 1e-6)
    index = torch.arange(dim, device=device)
    angle = place[:, None] / 10000 ** (2 * (index // 2) / dim)
    return torch.where(index % 2 == 0, angle.sin(), angle.cos())


@cached_table(maxsize=16)
def sine_map(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """(1, C, H, W) in float32: the code of the row in the first half of the channels."""
    rows = sine_code(height, dim // 2, device).T[:, :, None].expand(-1, -1, width)
    columns = sine_code(width, dim // 2, device).T[:, None].expand(-1, height, -1)
    return torch.cat((rows, columns))[None]


class ConvSinePosition(nn.Module):
    """Adds a depth-wise 3x3 convolution of a map of sines (ResFormer, arXiv 2212.00776, 3.2).

    Args:
        dim: Channels C, an even number.

    Raises:
        ValueError: `dim` is odd.
    """

    def __init__(self, dim: int):
        super().__init__()
        if dim % 2:
            raise ValueError(f"half of the channels are for rows: dim must be even, got {dim}")
        self.conv = DepthwiseConv2d(dim)

    def of_extra_tokens(self) -> Tensor:
        """(1, C): tokens without a place get nothing."""
        return self.conv.weight.new_zeros(1, self.conv.out_channels)

    def of_map(self, height: int, width: int) -> Tensor:
        """(1, C, H, W), the same for all images."""
        weight = self.conv.weight
        table = sine_map(height, width, self.conv.out_channels, weight.device)
        return self.conv(table.to(weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        return x + self.of_map(*x.shape[-2:])
