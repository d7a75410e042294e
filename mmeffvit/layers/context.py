"""What the modules of one resolution share: tables that depend on places only, each made once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmeffvit.ops import rotary_table_2d
from mmeffvit.ops.rotary import rotary_table_1d


@dataclass
class Context:
    """Keeps what is made of the places of tokens, for maps as for points.

    A module that needs a table names it and says how it is made; the context knows none of them.
    """

    _structures: dict[Hashable, Any] = field(default_factory=dict, repr=False, kw_only=True)

    def structure(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make()`` returns, made once for this context and key."""
        if key not in self._structures:
            self._structures[key] = make()
        return self._structures[key]


@dataclass
class MapContext(Context):
    """Size and place of a map.

    Attributes:
        height: Rows of the map.
        width: Columns of the map.
        device: Where the map lives.
    """

    height: int
    width: int
    device: torch.device

    @classmethod
    def of(cls, x: Tensor) -> MapContext:
        """The context of a (B, C, H, W) map."""
        return cls(x.shape[-2], x.shape[-1], x.device)

    @property
    def num_tokens(self) -> int:
        return self.height * self.width

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width


def rotary_1d(context: MapContext, head_dim: int) -> Tensor:
    """(H*W, d/2, 2) table of `mmeffvit.ops.rotary_table_1d`, of tokens in row-major order."""
    return context.structure(
        ("rotary_1d", head_dim),
        lambda: rotary_table_1d(context.num_tokens, head_dim, context.device),
    )


def rotary_2d(context: MapContext, head_dim: int) -> Tensor:
    """(H*W, d/2, 2) table of `mmeffvit.ops.rotary_table_2d`."""
    return context.structure(
        ("rotary_2d", head_dim),
        lambda: rotary_table_2d(context.height, context.width, head_dim, context.device),
    )
