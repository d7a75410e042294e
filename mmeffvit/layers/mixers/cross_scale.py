"""The token mixer of CrossFormer: groups of near or of distant tokens, and their position bias."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import QKVProjection, TokenMixer, to_map
from mmeffvit.ops.group_attention import group_attention
from mmeffvit.ops.precision import autocast_disabled, in_full
from mmeffvit.ops.tables import build_table
from mmeffvit.registry import MODELS


class PositionBias(nn.Module):
    """A bias per head for each pair of places in a group, made of their offset by a small MLP.

    The dynamic position bias of CrossFormer (arXiv 2108.00154, section 3.4): one set of weights for
    groups of any size. Offsets are in tokens of the group, whatever the interval between them.

    Args:
        num_heads: Heads h.
        hidden_dims: Channels p of the MLP.
    """

    def __init__(self, num_heads: int, hidden_dims: int):
        super().__init__()
        self.proj = nn.Linear(2, hidden_dims)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.LayerNorm(hidden_dims), nn.ReLU(), nn.Linear(hidden_dims, width))
                for width in (hidden_dims, hidden_dims, num_heads)
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def of_offsets(self, offsets: Tensor) -> Tensor:
        """(N, 2) offsets dy, dx to (N, h), in float32 at least."""
        with autocast_disabled(offsets.device.type):
            return self.layers(self.proj(offsets.to(self.proj.weight.dtype)))

    def forward(self, group: tuple[int, int], context: MapContext) -> Tensor:
        """(h, r, c, r, c) for groups of r rows and c columns: by query, then by key."""
        offsets, index = context.structure(
            ("offsets", group), lambda: build_table(_offsets, group, context.device)
        )
        table = in_full(self.of_offsets(offsets))
        return table.T[:, index]


def _offsets(group: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """All offsets (N, 2) in a group, and which of them is between each two of its places."""
    rows, columns = (torch.arange(n, device=device) for n in group)
    sides = [torch.arange(1 - n, n, device=device) for n in group]
    offsets = torch.cartesian_prod(*sides).reshape(-1, 2).float()
    dy = rows[:, None] - rows + group[0] - 1
    dx = columns[:, None] - columns + group[1] - 1
    index = dy[:, None, :, None] * (2 * group[1] - 1) + dx[None, :, None, :]
    return offsets, index


class GroupAttention(nn.Module):
    """Attention of the tokens of a map inside groups.

    Args:
        implementation: Of `mmeffvit.ops.group_attention`; None lets it choose.
    """

    def __init__(self, implementation: str | None = None):
        super().__init__()
        self.implementation = implementation

    def forward(self, q: Tensor, k: Tensor, v: Tensor, positions: tuple) -> Tensor:
        """(B, L, h, d) tokens; positions are the size of the map, the bias, and the interval."""
        size, bias, interval = positions
        maps = (t.unflatten(1, size) for t in (q, k, v))
        out = group_attention(*maps, bias, interval, implementation=self.implementation)
        return out.flatten(1, 2)


@MODELS.register_module()
class CrossScaleMixer(TokenMixer):
    """Short- or long-distance attention of CrossFormer (arXiv 2108.00154, section 3.3).

    Short-distance groups are windows; those of long-distance attention have their tokens `interval`
    apart. A map with a side that is no longer than a group is one group, at either distance.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        group_size: Rows and columns G of a group.
        interval: Distance between the tokens of a group; None for short-distance attention,
            ``'adaptive'`` for groups that span the longer side of any map.
        implementation: Of `mmeffvit.ops.group_attention`; None lets it choose.

    Raises:
        ValueError: `group_size` or `interval` is not possible.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        group_size: int = 7,
        interval: int | str | None = None,
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads)
        if group_size < 1:
            raise ValueError(f"group_size must be at least 1, got {group_size}")
        whole = isinstance(interval, int) and interval >= 1
        if not (interval is None or interval == "adaptive" or whole):
            raise ValueError(
                f"interval must be None, 'adaptive' or a number of at least 1, got {interval!r}"
            )
        self.group_size = group_size
        self.interval = interval
        self.qkv = QKVProjection(embed_dims, num_heads)
        # a quarter of a quarter, as the authors have it
        self.bias = PositionBias(num_heads, max(1, embed_dims // 16))
        self.core = GroupAttention(implementation)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def groups(self, size: tuple[int, int]) -> tuple[tuple[int, int], int]:
        """Rows and columns of a group on a map of `size`, and the distance of its tokens."""
        if min(size) <= self.group_size:
            return size, 1
        group = self.group_size, self.group_size
        if self.interval == "adaptive":
            return group, -(-max(size) // self.group_size)
        return group, self.interval or 1

    def positions(self, context: MapContext) -> tuple[tuple[int, int], Tensor, int]:
        group, interval = self.groups(context.size)
        return context.size, self.bias(group, context), interval

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v = self.qkv(x)
        out = self.core(q, k, v, self.positions(context))
        return self.proj(to_map(out, context))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, group_size={self.group_size}, interval={self.interval!r}"
