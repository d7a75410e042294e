"""What the token mixers of one stage share: tables that depend on the size of the map only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmeffvit.ops import rotary_table_2d
from mmeffvit.ops.manhattan_attention import ManhattanDecay
from mmeffvit.ops.rotary import rotary_table_1d


@dataclass
class MapContext:
    """Size and place of a map, and the tables made for it, each made once.

    Attributes:
        height: Rows of the map.
        width: Columns of the map.
        device: Where the map lives.
    """

    height: int
    width: int
    device: torch.device
    _tables: dict[Any, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, x: Tensor) -> MapContext:
        """The context of a (B, C, H, W) map."""
        return cls(x.shape[-2], x.shape[-1], x.device)

    @property
    def num_tokens(self) -> int:
        return self.height * self.width

    def rotary_1d(self, head_dim: int) -> Tensor:
        """(H*W, d/2, 2) table of `mmeffvit.ops.rotary_table_1d`, of tokens in row-major order."""
        key = ("rotary_1d", head_dim)
        if key not in self._tables:
            self._tables[key] = rotary_table_1d(self.num_tokens, head_dim, self.device)
        return self._tables[key]

    def manhattan_decay(self, rates: tuple[float, ...]) -> ManhattanDecay:
        """Decay masks of the map, for one rate per head."""
        key = ("manhattan_decay", rates)
        if key not in self._tables:
            self._tables[key] = ManhattanDecay(self.height, self.width, rates, self.device)
        return self._tables[key]

    def rotary_2d(self, head_dim: int) -> Tensor:
        """(H*W, d/2, 2) table of `mmeffvit.ops.rotary_table_2d`."""
        key = ("rotary_2d", head_dim)
        if key not in self._tables:
            self._tables[key] = rotary_table_2d(self.height, self.width, head_dim, self.device)
        return self._tables[key]
