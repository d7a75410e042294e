"""FlatFormer: attention in groups of equal size along curves through windows (arXiv 2301.08739).

The middle encoder of a detector: features of pillars in, a bird's-eye-view map out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.models.network import Network
from mmeffvit.models.official import KeyRule
from mmeffvit.models.points.backbones.flatformer_keys import FLATFORMER_RULES
from mmeffvit.ops.points import (
    EqualGroups,
    bev_scatter,
    check_pillars,
    equal_groups,
    window_snake_order,
)
from mmeffvit.registry import MODELS

#: (axis, shifted) of the layers of a block, in their order
ORDERS = (("x", False), ("x", True), ("y", False), ("y", True))

_ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}
#: the authors' pi
_PI = 3.1415


class GroupAttention(nn.Module):
    """Attention among the tokens of every group; positions are added to queries and keys.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h; C must be a multiple.
    """

    def __init__(self, embed_dims: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, pos: Tensor, groups: EqualGroups) -> Tensor:
        """(N, C) tokens with (N, C) positions to (N, C)."""
        channels = x.shape[1]
        weight, bias = self.qkv.weight, self.qkv.bias
        qk = F.linear(x + pos, weight[: 2 * channels], bias[: 2 * channels])
        v = F.linear(x, weight[2 * channels :], bias[2 * channels :])
        qkv = torch.cat((qk, v), dim=1).index_select(0, groups.slots)
        qkv = qkv.view(-1, groups.group_size, 3, self.num_heads, channels // self.num_heads)
        mask = None if groups.mask is None else groups.mask[:, None, None]
        out = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4), attn_mask=mask)
        out = out.transpose(1, 2).reshape(-1, channels)
        # what duplicates would get is not needed
        return self.proj(out.index_select(0, groups.slot_of_token))


class FlatFormerLayer(nn.Module):
    """Post-norm transformer layer; its residual has no positions."""

    def __init__(self, embed_dims: int, num_heads: int, mlp_ratio: int, activation: str):
        super().__init__()
        self.activation = _ACTIVATIONS[activation]
        self.attn = GroupAttention(embed_dims, num_heads)
        self.norm1 = nn.LayerNorm(embed_dims)
        self.fc1 = nn.Linear(embed_dims, mlp_ratio * embed_dims)
        self.fc2 = nn.Linear(mlp_ratio * embed_dims, embed_dims)
        self.norm2 = nn.LayerNorm(embed_dims)

    def forward(self, x: Tensor, pos: Tensor, groups: EqualGroups) -> Tensor:
        x = self.norm1(x + self.attn(x, pos, groups))
        return self.norm2(x + self.fc2(self.activation(self.fc1(x))))


@MODELS.register_module()
class FlatFormer(Network):
    """FlatFormer, the middle encoder of a detector in point clouds (arXiv 2301.08739).

    The keys of an arch dict are ``embed_dims``, ``num_heads``, ``num_blocks`` (of four layers each,
    one per order of the pillars), ``mlp_ratio``, ``group_size`` (pillars that attend to each
    other), ``window_size`` (x, y) in pillars, and ``grid_size`` (x, y) in pillars.

    It fits mmdet3d's `DynamicVoxelNet` as its ``middle_encoder``. Samples with fewer pillars than a
    group are one group with a mask, and samples without any are empty maps; a sample's map never
    depends on the others in its batch.

    Args:
        arch: 'waymo' or a dict.
        grid_size: Pillars along x and y, where not the variant's.
        activation: 'gelu' or 'relu'.
        pos_temperature: Ratio of the longest wavelength of positions to the shortest.
        normalize_pos: Positions count from 0 to 2 pi over the grid, instead of pillars.
        with_cp: Recompute layers in the backward pass to save memory.
        init_cfg: See `Network`.

    Raises:
        ValueError: Heads do not divide the width, or an argument is not possible.
    """

    family: ClassVar[str] = "flatformer"
    prefix: ClassVar[str] = "middle_encoder."
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "waymo": {
            "embed_dims": 128,
            "num_heads": 8,
            "num_blocks": 2,
            "mlp_ratio": 2,
            "group_size": 144,
            "window_size": (13, 13),
            "grid_size": (468, 468),
        }
    }
    official_rules: ClassVar[tuple[KeyRule, ...]] = FLATFORMER_RULES

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "waymo",
        grid_size: tuple[int, int] | None = None,
        activation: str = "gelu",
        pos_temperature: float = 10000,
        normalize_pos: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ):
        embed_dims = self._resolve_arch(arch)["embed_dims"]
        super().__init__(arch, embed_dims, with_cp=with_cp, init_cfg=init_cfg)
        self.grid_size = self._pair("grid_size", grid_size or self.arch["grid_size"])
        self.window_size = self._pair("window_size", self.arch["window_size"])
        self.group_size = self.arch["group_size"]
        num_heads = self.arch["num_heads"]
        if embed_dims % num_heads:
            raise ValueError(
                f"embed_dims must be a multiple of num_heads, got {embed_dims} and {num_heads}"
            )
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation must be 'gelu' or 'relu', got '{activation}'")
        if self.group_size < 1:
            raise ValueError(f"group_size must be at least 1, got {self.group_size}")
        self.pos_temperature = pos_temperature
        self.normalize_pos = normalize_pos
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                FlatFormerLayer(embed_dims, num_heads, self.arch["mlp_ratio"], activation)
                for _ in ORDERS
            )
            for _ in range(self.arch["num_blocks"])
        )
        self.reset_parameters()

    @staticmethod
    def _pair(name: str, sides: tuple[int, int]) -> tuple[int, int]:
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(f"{name} needs two positive sides (x, y) in pillars, got {sides}")
        return tuple(sides)

    @property
    def out_channels(self) -> int:
        """Channels of the map."""
        return self.arch["embed_dims"]

    def reset_parameters(self) -> None:
        """Xavier-uniform for all matrices, the joint one of queries, keys and values as one."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, GroupAttention):
                nn.init.zeros_(module.qkv.bias)
                nn.init.zeros_(module.proj.bias)

    def frozen_modules(self) -> list[nn.Module]:
        return []

    @classmethod
    def arch_from_official(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Our arch dict from the authors' config."""
        return {
            "embed_dims": config["in_channels"],
            "num_heads": config["num_heads"],
            "num_blocks": config["num_blocks"],
            "mlp_ratio": 2,
            "group_size": config["group_size"],
            "window_size": tuple(config["window_shape"][:2]),
            "grid_size": tuple(config["sparse_shape"][:2]),
        }

    def position_embedding(self, coors: Tensor) -> Tensor:
        """Sines and cosines of the places of pillars: (N, 4) (batch, z, y, x) to (N, C)."""
        channels = self.arch["embed_dims"]
        half = channels // 4 * 2
        index = torch.arange(half, device=coors.device)
        wavelengths = self.pos_temperature ** (2 * (index // 2) / half)
        parts = []
        for places, size in zip((coors[:, 3], coors[:, 2]), self.grid_size):
            # one row for each place of the grid, looked up by the pillars
            u = torch.arange(size, device=coors.device, dtype=torch.float32)
            if self.normalize_pos:
                u = u / size * 2 * _PI
            angles = u[:, None] / wavelengths
            parts.append(torch.where(index % 2 == 0, angles.sin(), angles.cos())[places])
        return F.pad(torch.cat(parts, dim=1), (0, channels - 2 * half))

    def forward(self, voxel_features: Tensor, coors: Tensor, batch_size: int) -> Tensor:
        """A bird's-eye-view map of all pillars.

        Args:
            voxel_features: (N, C) features of pillars.
            coors: (N, 4) integers, (batch, z, y, x), each pillar once; rows in any order.
            batch_size: Samples B.

        Returns:
            (B, C, H, W), rows along y, columns along x; zeros where no pillar is.

        Raises:
            ValueError: Shapes are others, pillars lie outside of the grid or are there twice.
            TypeError: `coors` are not integers.
        """
        whose = self.in_channels, type(self).__name__
        coors = check_pillars(voxel_features, coors, *whose, batch_size, self.grid_size)
        x = voxel_features
        if len(x):
            orders = self._groups(coors)
            pos = self.position_embedding(coors).to(x.dtype)
            for block in self.blocks:
                for layer, groups in zip(block, orders):
                    x = self.run_block(layer, x, pos, groups)
        width, height = self.grid_size
        return bev_scatter(x, coors, batch_size, height, width)

    def _groups(self, coors: Tensor) -> list[EqualGroups]:
        """Groups of pillars along each curve of `ORDERS`."""
        counts = torch.bincount(coors[:, 0])
        # samples without pillars have no groups
        groups = equal_groups(counts[counts > 0].cumsum(0), self.group_size)
        sizes = self.window_size, self.grid_size
        return [groups.along(window_snake_order(coors, *sizes, *order)) for order in ORDERS]

    def extra_repr(self) -> str:
        return (
            f"group_size={self.group_size}, window_size={self.window_size}, "
            f"grid_size={self.grid_size}"
        )
