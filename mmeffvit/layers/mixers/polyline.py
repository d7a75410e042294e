"""The token mixer of PPMA."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext, rotary_1d
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.mixers.base import QKVProjection, TokenMixer, to_map
from mmeffvit.ops import apply_rotary, polyline_attention
from mmeffvit.ops.precision import autocast_disabled, in_full
from mmeffvit.registry import MODELS


class PathPositions(NamedTuple):
    """Rotary table (H*W, d/2, 2) of a map, and what each step on it costs, (B, H, W, h, 2)."""

    table: Tensor
    steps: Tensor


class PolylineAttention(nn.Module):
    """Attention whose logits fall along the path from the query to the key.

    Args:
        decomposed: Attention along rows and along columns, one after the other in both orders, in
            place of the whole map: cost grows with the area to the power of 1.5, not 2.
        implementation: Of `mmeffvit.ops.polyline_attention`; None lets it choose.
    """

    def __init__(self, decomposed: bool = False, implementation: str | None = None):
        super().__init__()
        self.decomposed = decomposed
        self.implementation = implementation

    def forward(self, q: Tensor, k: Tensor, v: Tensor, positions: PathPositions) -> Tensor:
        """Attention over tokens (B, L, h, d) of a map in row-major order."""
        return polyline_attention(
            apply_rotary(q, positions.table),
            apply_rotary(k, positions.table),
            v,
            positions.steps,
            decomposed=self.decomposed,
            implementation=self.implementation,
        )

    def extra_repr(self) -> str:
        return f"decomposed={self.decomposed}"


class PathSteps(nn.Module):
    """What a step over a token takes off the logits, by its channels: one number per axis.

    With (a, b) a linear map of the d channels of a head, the same for all heads, they are
    ``-r softplus(a + s)`` along the row and ``-r softplus(b + s)`` along the column, with a bias s
    and a rate r per head.

    Args:
        num_heads: Heads h.
        head_dim: Channels d of one head.
    """

    def __init__(self, num_heads: int, head_dim: int):
        super().__init__()
        self.linear = nn.Linear(head_dim, 2, bias=False)
        self.bias = nn.Parameter(torch.empty(num_heads))
        self.log_rate = nn.Parameter(torch.empty(num_heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Rates in [1, 1.1], and softplus of the bias log-uniform in [0.001, 0.1]."""
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        with torch.no_grad():
            self.log_rate.uniform_(1, 1.1).log_()
            first = self.bias.uniform_(math.log(1e-3), math.log(0.1)).exp_()
            self.bias.copy_(first.expm1().log())  # the inverse of softplus

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, H, W, h, 2) negative numbers, in float32 at least."""
        # sums along whole rows are made of them, and differences of these
        with autocast_disabled(x.device.type):
            tokens = in_full(x).permute(0, 2, 3, 1).unflatten(-1, (len(self.bias), -1))
            logits = self.linear(tokens) + self.bias[:, None]
            # softplus, whose own gradient has a layout in memory that compilers do not foresee;
            # in these terms the gradient at zero is a half, as it should be
            size = logits.abs()
            slopes = (logits + size) / 2 + size.neg().exp().log1p()
            return -slopes * self.log_rate.exp()[:, None]


@MODELS.register_module()
class PolylineMixer(TokenMixer):
    """Polyline path masked attention (PPMA, arXiv 2506.15940, section 3).

    Logits fall along the path from query to key, by what each token on it says. Queries and keys
    are rotated by the index of their pixel, counted row by row. A 5x5 depth-wise convolution of the
    values is added to what attention makes of them.

    Args:
        embed_dims: Channels C; the head dimension must be even.
        num_heads: Heads h.
        decomposed: See `PolylineAttention`.
        implementation: See `PolylineAttention`.

    Raises:
        ValueError: The head dimension is odd.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        decomposed: bool = False,
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads, multiple=2)
        self.qkv = QKVProjection(embed_dims, num_heads)
        self.steps = PathSteps(num_heads, self.head_dim)
        self.core = PolylineAttention(decomposed, implementation)
        self.lepe = DepthwiseConv2d(embed_dims, 5)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v = self.qkv(x)
        v = v.contiguous()  # one copy serves both its readers
        positions = PathPositions(rotary_1d(context, self.head_dim), self.steps(x))
        out = self.core(q, k, v, positions)
        return self.proj(to_map(out, context) + self.lepe(to_map(v, context)))
