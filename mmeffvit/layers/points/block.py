"""The transformer block of point networks."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.drop_path import DropPath
from mmeffvit.layers.points.level import PointLevel
from mmeffvit.registry import MODELS


class PointMLP(nn.Module):
    """Two linear layers with a GELU between: (N, C) to (N, C)."""

    def __init__(self, channels: int, hidden_channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class PointBlock(nn.Module):
    """Pre-norm transformer block of voxels; stochastic depth drops single ones, as ConDaFormer's.

    Args:
        embed_dims: Channels C.
        num_heads: Heads of the mixer.
        mixer: Its config; it gets both.
        drop_path_rate: Share of voxels that skip a branch in training.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, mixer: dict[str, Any], drop_path_rate: float = 0.0
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mixer = MODELS.build({**mixer, "embed_dims": embed_dims, "num_heads": num_heads})
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = PointMLP(embed_dims, 4 * embed_dims)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, level: PointLevel) -> Tensor:
        x = x + self.drop_path(self.mixer(self.norm1(x), level))
        return x + self.drop_path(self.mlp(self.norm2(x)))
