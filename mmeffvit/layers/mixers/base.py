"""The interface of all token mixers, and the projections that mixers are composed of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.ops.precision import autocast_disabled
from mmeffvit.ops.tables import refuse_jit_trace


class Mixer(nn.Module):
    """What mixers of maps and of points have in common: channels in heads.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h; C must be a multiple.
        multiple: Of which the channels of a head must be one: positions turn pairs of them.

    Raises:
        ValueError: The channels do not divide so.
    """

    def __init__(self, embed_dims: int, num_heads: int, multiple: int = 1):
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(
                f"{type(self).__name__} needs embed_dims to be a multiple of num_heads, got "
                f"{embed_dims} and {num_heads}"
            )
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.head_dim = embed_dims // num_heads
        if self.head_dim % multiple:
            raise ValueError(
                f"{type(self).__name__} encodes positions in groups of {multiple} channels: "
                f"embed_dims / num_heads must be a multiple of {multiple}, got {embed_dims} / "
                f"{num_heads}"
            )

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}"


class TokenMixer(Mixer):
    """Mixes the tokens of a map: (B, C, H, W) and the context of its stage to (B, C, H, W).

    A mixer with attention is composed of three parts, called in its own ``forward``: projections
    to queries, keys and values; ``core(q, k, v, positions)``, (B, L, h, d) each to (B, L, h, d), a
    module of its own that may also serve points; and the way out. ``positions(context)`` makes what
    the core needs to know of places. `mmeffvit.visualization` draws the attention of any ``core``.
    """

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        raise NotImplementedError


class QKVProjection(nn.Conv2d):
    """1x1 convolution of a map to queries, keys and values, and more parts such as a gate.

    The channels that it makes are [q | k | v | ...], each head-major.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        parts: How many tensors it makes.
        bias: Whether the convolution has one.
    """

    def __init__(self, embed_dims: int, num_heads: int, parts: int = 3, bias: bool = True):
        super().__init__(embed_dims, parts * embed_dims, 1, bias=bias)
        self.num_heads = num_heads
        self.parts = parts

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) to tensors (B, L, h, d), tokens in row-major order."""
        return self.to_heads(super().forward(x))

    def to_heads(self, projected: Tensor) -> tuple[Tensor, ...]:
        """What the convolution makes of a map, (B, parts * C, H, W), to tensors (B, L, h, d)."""
        batch, channels, height, width = projected.shape
        head_dim = channels // self.parts // self.num_heads
        tokens = projected.permute(0, 2, 3, 1)
        tokens = tokens.reshape(batch, height * width, self.parts, self.num_heads, head_dim)
        # unbind has a cheaper gradient than slices
        return tokens.unbind(2)


def to_map(tokens: Tensor, context: MapContext) -> Tensor:
    """(B, L, h, d) tokens in row-major order as a map (B, h*d, H, W), channels last in memory."""
    # len() would bind an exported graph to one batch
    return tokens.reshape(tokens.shape[0], context.height, context.width, -1).permute(0, 3, 1, 2)


class MapEdges(NamedTuple):
    """Rows and columns of a map, and what stands beyond it.

    Attributes:
        size: Rows and columns.
        beyond: [q | k | v], (3 * h * d,), of every place beyond the map; None for zeros.
    """

    size: tuple[int, int]
    beyond: Tensor | None = None


def continue_map(x: Tensor, beyond: Tensor, least: Sequence[int]) -> Tensor:
    """A map, continued at the bottom and on the right.

    Args:
        x: (B, H, W, h, d).
        beyond: (h, d), at every place beyond the map.
        least: Rows and columns that the result has at least.
    """
    height, width = x.shape[1:3]
    if not torch.compiler.is_compiling():
        refuse_jit_trace()
    bottom, right = (torch.sym_max(0, n - side) for n, side in zip(least, (height, width)))
    # whether a place is missing may be unknown while tracing
    if not torch.compiler.is_compiling() and not bottom and not right:
        return x
    x = F.pad(x, (0, 0, 0, 0, 0, right, 0, bottom))
    rows, columns = (torch.arange(n, device=x.device) for n in x.shape[1:3])
    there = (rows < height)[:, None] & (columns < width)
    return torch.where(there[..., None, None], x, beyond.to(x.dtype))


def project_output(proj: nn.Module, out: Tensor, gate: Tensor | None = None) -> Tensor:
    """``proj(out)`` or ``proj(out * gate)``, without an activation of the gate.

    Under float16 autocast the product and the projection are in float32, and what comes out is
    float16 again: infinite where the exact result does not fit, as after any layer in float16.
    """
    if gate is None:
        return proj(out)
    # two activations of 300 have a product beyond float16, and often a projection within it
    if gate.dtype == torch.float16 and proj.weight.dtype == torch.float32:
        with autocast_disabled(gate.device.type):
            return proj(out.float() * gate.float()).to(gate.dtype)
    return proj((out * gate).to(gate.dtype))
