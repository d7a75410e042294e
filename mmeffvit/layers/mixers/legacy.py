"""Base classes of earlier token mixers, kept for one release: compose mixers instead."""

from __future__ import annotations

import warnings
from typing import ClassVar

from torch import Tensor, nn

from mmeffvit.layers.context import MapContext, rotary_2d
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.mixers.base import QKVProjection, TokenMixer, project_output, to_map


class LePEAttention(TokenMixer):
    """Projections around ``attend(q, k, v, context)``, which a sub-class has.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
    """

    gated: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__module__ != __name__:
            warnings.warn(
                f"{cls.__name__} derives from a base class that goes away; compose it of "
                "QKVProjection, a core and a projection as mmeffvit.layers.SECMixer is",
                DeprecationWarning,
                stacklevel=2,
            )

    def __init__(self, embed_dims: int, num_heads: int):
        super().__init__(embed_dims, num_heads)
        self.qkv = QKVProjection(embed_dims, num_heads, parts=4 if self.gated else 3)
        self.lepe = DepthwiseConv2d(embed_dims, 5)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: MapContext) -> Tensor:
        """(B, L, h, d) each to (B, L, h, d)."""
        raise NotImplementedError

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v, *gate = self.qkv(x)
        v = v.contiguous()
        out = to_map(self.attend(q, k, v, context), context) + self.lepe(to_map(v, context))
        return project_output(self.proj, out, *(to_map(g, context) for g in gate))


class RotaryLePEAttention(LePEAttention):
    """The same with ``attention(q, k, v, table)`` and the rotary table of the map."""

    def attention(self, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        """(B, L, h, d) each, and their (L, d/2, 2) table, to (B, L, h, d)."""
        raise NotImplementedError

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: MapContext) -> Tensor:
        return self.attention(q, k, v, rotary_2d(context, self.head_dim))
