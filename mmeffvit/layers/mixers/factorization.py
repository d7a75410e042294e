"""The token mixer of FaViT."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.mixers.base import TokenMixer
from mmeffvit.layers.norm import LayerNorm2d
from mmeffvit.ops import dilated_summaries, summary_attention
from mmeffvit.ops.tables import refuse_jit_trace
from mmeffvit.registry import MODELS


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """A map (B, C, H, W) as (B, h, L, C / h) tokens, row by row."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, (num_heads, -1)).transpose(1, 2)


def _map(tokens: Tensor, context: MapContext) -> Tensor:
    """The inverse of :func:`_heads`."""
    return tokens.transpose(1, 2).flatten(2).unflatten(1, context.size).permute(0, 3, 1, 2)


class ReducedKeys(nn.Module):
    """Keys and values of a map that a convolution of kernel = stride made smaller.

    Args:
        dim: Channels C.
        reduction: Side R of the kernel.
    """

    def __init__(self, dim: int, reduction: int):
        super().__init__()
        self.reduction = reduction
        self.reduce = nn.Conv2d(dim, dim, reduction, stride=reduction)
        self.norm = LayerNorm2d(dim, eps=1e-5)
        self.kv = nn.Conv2d(dim, 2 * dim, 1)
        self.enhance = DepthwiseConv2d(dim, residual=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) to keys and values, (B, 1, floor(H / R) * floor(W / R), C) each."""
        refuse_jit_trace()
        # a map smaller than the kernel is filled up with zeros
        bottom, right = (torch.sym_max(0, self.reduction - side) for side in x.shape[2:])
        if torch.compiler.is_compiling() or bottom or right:
            x = F.pad(x, (0, right, 0, bottom))
        k, v = self.kv(self.norm(self.reduce(x))).chunk(2, dim=1)
        return _heads(k, 1), _heads(self.enhance(v), 1)


class SummaryKeys(nn.Module):
    """Keys and values of k x k summaries of a map; see `mmeffvit.ops.dilated_summaries`.

    Args:
        dim: Channels C.
        num_heads: Heads h, which share the linear layers.
        window_size: Points k on each axis.
        dilation: Distance between them.
        implementation: Of the operator; None lets it choose.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int,
        dilation: int,
        implementation: str | None = None,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.dilation = dilation
        self.implementation = implementation
        head_dim = dim // num_heads
        self.fc = nn.Linear(head_dim, head_dim)
        self.kv = nn.Linear(head_dim, 2 * head_dim)
        self.enhance = DepthwiseConv2d(dim, residual=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) to keys and values, (B, h, k * k, C / h) each."""
        side = self.window_size
        summaries = dilated_summaries(
            x, self.num_heads, side, self.dilation, implementation=self.implementation
        )
        k, v = self.kv(self.fc(summaries)).chunk(2, dim=-1)
        v = v.transpose(2, 3).flatten(1, 2).unflatten(2, (side, side))  # (B, C, k, k)
        return k, _heads(self.enhance(v), self.num_heads)

    def extra_repr(self) -> str:
        return f"window_size={self.window_size}, dilation={self.dilation}"


@MODELS.register_module()
class FactorizationMixer(TokenMixer):
    """Factorization self-attention (FaViT, arXiv 2312.08614): cost of windows, range of the map.

    Channels are split. The first part attends, in one head, to a map that is R times smaller; the
    others, in h heads each, to k x k summaries of the map, whose points are 1 and R apart. Shares
    are 2 : 7 : 7, or 1 : 7 without a reduction, where only neighbouring points are summarised. What
    a summary averages depends on the size of the map (`mmeffvit.ops.dilated_summaries`).

    Args:
        embed_dims: Channels C; a multiple of 16, without a reduction of 8.
        num_heads: Heads h of each local part, whose channels are a multiple.
        reduction: Side R of the tokens that are reduced to one; 1 for none.
        window_size: Summaries k on each axis.
        implementation: Of `mmeffvit.ops.dilated_summaries` and `mmeffvit.ops.summary_attention`;
            None lets them choose.

    Raises:
        ValueError: Channels do not divide so, or an argument is not positive.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        reduction: int = 1,
        window_size: int = 7,
        implementation: str | None = None,
    ):
        # heads are those of the local parts, whose channels are checked here
        super().__init__(embed_dims, 1)
        if reduction < 1 or window_size < 1:
            raise ValueError(
                f"reduction and window_size must be positive, got {reduction} and {window_size}"
            )
        shares = (2, 7, 7) if reduction > 1 else (1, 7)
        unit, rest = divmod(embed_dims, sum(shares))
        if rest or 7 * unit % num_heads:
            raise ValueError(
                f"FactorizationMixer with reduction={reduction} splits channels in "
                f"{' : '.join(map(str, shares))}: embed_dims must be a multiple of {sum(shares)}, "
                f"and its 7/{sum(shares)} of num_heads; got {embed_dims} and {num_heads}"
            )
        self.num_heads = num_heads
        self.head_dim = 7 * unit // num_heads
        self.global_dim = shares[0] * unit
        self.implementation = implementation
        local_dim = embed_dims - self.global_dim
        self.q = nn.Conv2d(embed_dims, embed_dims, 1)
        self.reduced = ReducedKeys(self.global_dim, reduction)
        self.depth = DepthwiseConv2d(local_dim)
        self.point = nn.Conv2d(local_dim, local_dim, 1)
        self.summaries = nn.ModuleList(
            SummaryKeys(7 * unit, num_heads, window_size, dilation, implementation)
            for dilation in (1, reduction)[: len(shares) - 1]
        )
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        parts = (self.global_dim, x.shape[1] - self.global_dim)
        (x_global, x_local), (q_global, q_local) = (t.split(parts, dim=1) for t in (x, self.q(x)))
        outs = [self._attend(_heads(q_global, 1), *self.reduced(x_global), context)]
        # a part of the channels of the map, but of every head of the queries
        maps = self.point(self.depth(x_local)).chunk(len(self.summaries), dim=1)
        queries = _heads(q_local, self.num_heads).chunk(len(self.summaries), dim=3)
        outs += [
            self._attend(q, *keys(part), context)
            for keys, part, q in zip(self.summaries, maps, queries, strict=True)
        ]
        return self.proj(torch.cat(outs, dim=1))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, context: MapContext) -> Tensor:
        return _map(summary_attention(q, k, v, implementation=self.implementation), context)
