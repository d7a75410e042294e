"""The token mixers of RAVLT: gated linear attention, and gated softmax attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext, rotary_2d
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.mixers.base import QKVProjection, TokenMixer, project_output, to_map
from mmeffvit.ops.rala import rank_augmented_linear_attention, rotary_softmax_attention
from mmeffvit.registry import MODELS


class RALAttention(nn.Module):
    """Rank-augmented linear attention of tokens, whatever they are tokens of.

    Args:
        implementation: Of `mmeffvit.ops.rank_augmented_linear_attention`; None lets it choose.
    """

    def __init__(self, implementation: str | None = None):
        super().__init__()
        self.implementation = implementation

    def forward(self, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        """Attention over tokens (B, L, h, d) with their (L, d/2, 2) rotary table."""
        if v.dtype == torch.float16:
            # the attention is in float32 anyway, and its result may exceed all values
            v = v.float()
        return rank_augmented_linear_attention(q, k, v, table, implementation=self.implementation)


class RotarySoftmaxAttention(nn.Module):
    """Softmax attention of tokens, whatever they are tokens of, turned by their positions.

    Args:
        implementation: Of `mmeffvit.ops.rotary_softmax_attention`; None lets it choose.
    """

    def __init__(self, implementation: str | None = None):
        super().__init__()
        self.implementation = implementation

    def forward(self, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        """Attention over tokens (B, L, h, d) with their (L, d/2, 2) rotary table."""
        return rotary_softmax_attention(q, k, v, table, implementation=self.implementation)


class GatedMixer(TokenMixer):
    """Attention, a 5x5 depth-wise convolution of the values added, and a gate before the way out.

    The gate is a fourth projection of the input, without an activation; see `project_output`.

    Args:
        embed_dims: Channels C; the head dimension must be a multiple of 4.
        num_heads: Heads h.
        core: The attention.
    """

    def __init__(self, embed_dims: int, num_heads: int, core: nn.Module):
        super().__init__(embed_dims, num_heads, multiple=4)
        self.qkv = QKVProjection(embed_dims, num_heads, parts=4)
        self.core = core
        self.lepe = DepthwiseConv2d(embed_dims, 5)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def positions(self, context: MapContext) -> Tensor:
        return rotary_2d(context, self.head_dim)

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v, gate = self.qkv(x)
        v = v.contiguous()  # one copy serves both its readers
        out = self.core(q, k, v, self.positions(context))
        out = to_map(out, context) + self.lepe(to_map(v, context))
        return project_output(self.proj, out, to_map(gate, context))


@MODELS.register_module()
class RALAMixer(GatedMixer):
    """Rank-augmented linear attention with a gate (arXiv 2411.07635, section 3).

    Keys are weighted by the mean query, which raises the rank of linear attention's state; the
    gate raises that of its output. Cost grows linearly with the area.

    Args:
        embed_dims: Channels C; the head dimension must be a multiple of 4.
        num_heads: Heads h.
        implementation: See `RALAttention`.
    """

    def __init__(self, embed_dims: int, num_heads: int, implementation: str | None = None):
        super().__init__(embed_dims, num_heads, RALAttention(implementation))


@MODELS.register_module()
class GatedSoftmaxMixer(GatedMixer):
    """Softmax attention over the whole map, with RAVLT's gate: what its last two stages use.

    Args:
        embed_dims: Channels C; the head dimension must be a multiple of 4.
        num_heads: Heads h.
        implementation: See `RotarySoftmaxAttention`.
    """

    def __init__(self, embed_dims: int, num_heads: int, implementation: str | None = None):
        super().__init__(embed_dims, num_heads, RotarySoftmaxAttention(implementation))
