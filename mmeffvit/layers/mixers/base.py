"""The interface of all token mixers, and the projections that the family's mixers share."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.ops.precision import autocast_disabled


class TokenMixer(nn.Module):
    """Mixes the tokens of a map: (B, C, H, W) -> (B, C, H, W).

    Args:
        embed_dims: Channels C.
        num_heads: Heads h; C must be a multiple.
    """

    def __init__(self, embed_dims: int, num_heads: int):
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(
                f"{type(self).__name__} needs embed_dims to be a multiple of num_heads, got "
                f"{embed_dims} and {num_heads}"
            )
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.head_dim = embed_dims // num_heads

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        raise NotImplementedError


class LePEAttention(TokenMixer):
    """Projection to q, k, v; attention; a 5x5 depth-wise convolution of v added; projection.

    The channels of the first projection are [q | k | v], each head-major. The convolution sees the
    values as an image, whatever order of tokens the attention uses (LePE, CSWin, arXiv 2107.00652).
    A sub-class provides :meth:`attend`, and may ask for a gate: a fourth part of the first
    projection then multiplies the sum before the last one, without an activation. Under float16
    autocast the product and the last projection are in float32, and what comes out is float16
    again: infinite where the exact result does not fit, as after any layer in float16.
    """

    #: whether the first projection makes [q | k | v | gate]
    gated: ClassVar[bool] = False

    def __init__(self, embed_dims: int, num_heads: int):
        super().__init__(embed_dims, num_heads)
        self.qkv = nn.Conv2d(embed_dims, (4 if self.gated else 3) * embed_dims, 1)
        self.lepe = DepthwiseConv2d(embed_dims, 5)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: MapContext) -> Tensor:
        """Attention over tokens.

        Args:
            q: (B, L, h, d) queries, not rotated.
            k: (B, L, h, d) keys, not rotated.
            v: (B, L, h, d) values, contiguous.
            context: Shared tables of the stage.

        Returns:
            (B, L, h, d).
        """
        raise NotImplementedError

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        batch, channels, height, width = x.shape
        qkv = self.qkv(x).permute(0, 2, 3, 1)
        # unbind has a cheaper gradient than slices, and one copy of v serves both its readers
        tokens = qkv.reshape(batch, height * width, -1, self.num_heads, self.head_dim)
        q, k, v, *gate = tokens.unbind(2)
        v = v.contiguous()
        out = self.attend(q, k, v, context)
        out, image, *gate = (
            t.reshape(batch, height, width, channels).permute(0, 3, 1, 2) for t in (out, v, *gate)
        )
        out = out + self.lepe(image)
        return self._project_gated(out, *gate) if gate else self.proj(out)

    def _project_gated(self, out: Tensor, gate: Tensor) -> Tensor:
        # two activations of 300 have a product beyond float16, and often a projection within it
        if gate.dtype == torch.float16 and self.proj.weight.dtype == torch.float32:
            with autocast_disabled(gate.device.type):
                return self.proj(out.float() * gate.float()).to(gate.dtype)
        return self.proj((out * gate).to(gate.dtype))
