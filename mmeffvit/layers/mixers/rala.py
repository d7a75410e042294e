"""The token mixers of RAVLT: gated linear attention, and gated softmax attention."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mmeffvit.layers.mixers.base import Mixer, RotaryLePEAttention
from mmeffvit.ops.rala import rank_augmented_linear_attention, rotary_softmax_attention
from mmeffvit.registry import MODELS


class _GatedAttention(Mixer):
    """Asks for a gate and holds the choice of an implementation."""

    gated: ClassVar[bool] = True

    def __init__(
        self, embed_dims: int, num_heads: int, implementation: str | None = None, **kwargs
    ):
        super().__init__(embed_dims, num_heads, **kwargs)
        self.implementation = implementation

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}"


class RALAttention(_GatedAttention):
    """Rank-augmented linear attention of tokens, whatever they are tokens of.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        implementation: Of `mmeffvit.ops.rank_augmented_linear_attention`; None lets it choose.
        **kwargs: Those of the class beside this one.
    """

    def attention(self, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        """Attention over tokens (B, L, h, d) with their (L, d/2, 2) rotary table."""
        if v.dtype == torch.float16:
            # the attention is in float32 anyway, and its result may exceed all values
            v = v.float()
        return rank_augmented_linear_attention(q, k, v, table, implementation=self.implementation)


class GatedSoftmaxAttention(_GatedAttention):
    """Softmax attention of tokens, whatever they are tokens of, with a gate.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        implementation: Of `mmeffvit.ops.rotary_softmax_attention`; None lets it choose.
        **kwargs: Those of the class beside this one.
    """

    def attention(self, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        """Attention over tokens (B, L, h, d) with their (L, d/2, 2) rotary table."""
        return rotary_softmax_attention(q, k, v, table, implementation=self.implementation)


@MODELS.register_module()
class RALAMixer(RALAttention, RotaryLePEAttention):
    """Rank-augmented linear attention with a gate (arXiv 2411.07635, section 3).

    Keys are weighted by the mean query, which raises the rank of linear attention's state; the
    gate, a fourth projection of the input without an activation, raises that of its output. Cost
    grows linearly with the area. Arguments are those of `RALAttention`; the head dimension must be
    a multiple of 4.
    """


@MODELS.register_module()
class GatedSoftmaxMixer(GatedSoftmaxAttention, RotaryLePEAttention):
    """Softmax attention over the whole map, with RAVLT's gate: what its last two stages use.

    Arguments are those of `GatedSoftmaxAttention`; the head dimension must be a multiple of 4.
    """
