"""The token mixers of RAVLT: gated linear attention, and gated softmax attention."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import LePEAttention
from mmeffvit.ops.rala import rank_augmented_linear_attention, rotary_softmax_attention
from mmeffvit.registry import MODELS


class _GatedRotaryAttention(LePEAttention):
    """Checks the head dimension and holds the choice of an implementation."""

    gated: ClassVar[bool] = True

    def __init__(self, embed_dims: int, num_heads: int, implementation: str | None = None):
        super().__init__(embed_dims, num_heads)
        if self.head_dim % 4:
            raise ValueError(
                f"{type(self).__name__} encodes positions in groups of 4 channels: embed_dims / "
                f"num_heads must be a multiple of 4, got {embed_dims} / {num_heads}"
            )
        self.implementation = implementation

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}"


@MODELS.register_module()
class RALAMixer(_GatedRotaryAttention):
    """Rank-augmented linear attention with a gate (arXiv 2411.07635, section 3).

    Keys are weighted by the mean query, which raises the rank of linear attention's state; the
    gate, a fourth projection of the input without an activation, raises that of its output. Cost
    grows linearly with the area.

    Args:
        embed_dims: Channels C; the head dimension must be a multiple of 4.
        num_heads: Heads h.
        implementation: Of `mmeffvit.ops.rank_augmented_linear_attention`; None lets it choose.

    Raises:
        ValueError: The head dimension is not a multiple of 4.
    """

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: MapContext) -> Tensor:
        table = context.rotary_2d(self.head_dim)
        if v.dtype == torch.float16:
            # the attention is in float32 anyway, and its result may exceed all values
            v = v.float()
        return rank_augmented_linear_attention(q, k, v, table, implementation=self.implementation)


@MODELS.register_module()
class GatedSoftmaxMixer(_GatedRotaryAttention):
    """Softmax attention over the whole map, with RAVLT's gate: what its last two stages use.

    Args:
        embed_dims: Channels C; the head dimension must be a multiple of 4.
        num_heads: Heads h.
        implementation: Of `mmeffvit.ops.rotary_softmax_attention`; None lets it choose.

    Raises:
        ValueError: The head dimension is not a multiple of 4.
    """

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: MapContext) -> Tensor:
        table = context.rotary_2d(self.head_dim)
        return rotary_softmax_attention(q, k, v, table, implementation=self.implementation)
