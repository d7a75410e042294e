"""The interface of all token mixers, and the projections that the family's mixers share."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.ops.precision import autocast_disabled


class Mixer(nn.Module):
    """What mixers of maps and of points have in common: channels in heads.

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


class TokenMixer(Mixer):
    """Mixes the tokens of a map: (B, C, H, W) -> (B, C, H, W)."""

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        raise NotImplementedError


def project_output(proj: nn.Module, out: Tensor, gate: Tensor | None = None) -> Tensor:
    """``proj(out)`` or ``proj(out * gate)``, the latter in float32 under float16 autocast."""
    if gate is None:
        return proj(out)
    # two activations of 300 have a product beyond float16, and often a projection within it
    if gate.dtype == torch.float16 and proj.weight.dtype == torch.float32:
        with autocast_disabled(gate.device.type):
            return proj(out.float() * gate.float()).to(gate.dtype)
    return proj((out * gate).to(gate.dtype))


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
        return project_output(self.proj, out + self.lepe(image), *gate)


class RotaryLePEAttention(LePEAttention):
    """The same with 2-D rotary positions; a sub-class has ``attention(q, k, v, table)``.

    Raises:
        ValueError: The head dimension is not a multiple of 4.
    """

    def __init__(self, embed_dims: int, num_heads: int):
        super().__init__(embed_dims, num_heads)
        if self.head_dim % 4:
            raise ValueError(
                f"{type(self).__name__} encodes positions in groups of 4 channels: embed_dims / "
                f"num_heads must be a multiple of 4, got {embed_dims} / {num_heads}"
            )

    def attention(self, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        """Attention over tokens (B, L, h, d) with their (L, d/2, 2) rotary table."""
        raise NotImplementedError

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: MapContext) -> Tensor:
        return self.attention(q, k, v, context.rotary_2d(self.head_dim))
