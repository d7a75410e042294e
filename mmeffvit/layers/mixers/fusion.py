"""Several token mixers side by side, and attention between what they make of a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import TokenMixer, to_map
from mmeffvit.ops import cell_attention
from mmeffvit.registry import MODELS


@MODELS.register_module()
class FusionMixer(TokenMixer):
    """Runs any mixers on the same map, and lets each token choose between their outputs.

    Every token is a query, and has one candidate per mixer: that mixer's output in its place. An
    attention over these few weighs them, head by head. With a window and a pooled mixer it is the
    fusion of a local and a global stream of which MAFormer's abstract (arXiv 2209.01620) speaks;
    what attends to what is a choice made here, as no more than the abstract is public to us.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h, of all mixers and of the fusion.
        mixers: Two or more configs of mixers, without ``embed_dims`` and ``num_heads``, such as
            ``dict(type='mmeffvit.SoftmaxMixer', window_size=7)``.
        implementation: Of `mmeffvit.ops.cell_attention`; None lets it choose.

    Raises:
        ValueError: There are fewer than two mixers, or C is no multiple of h.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        mixers: Sequence[Mapping[str, Any]],
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads)
        if len(mixers) < 2:
            raise ValueError(f"FusionMixer joins two or more mixers, got {len(mixers)}: {mixers}")
        self.implementation = implementation
        self.mixers = nn.ModuleList(
            MODELS.build({**mixer, "embed_dims": embed_dims, "num_heads": num_heads})
            for mixer in mixers
        )
        self.query = nn.Conv2d(embed_dims, embed_dims, 1)
        # to [k | v] of every candidate, each head-major
        self.kv = nn.Linear(embed_dims, 2 * embed_dims)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q = self.query(x).flatten(2).transpose(1, 2).unflatten(2, (self.num_heads, -1))
        outs = [mixer(x, context).flatten(2).transpose(1, 2) for mixer in self.mixers]
        out = cell_attention(
            q,
            torch.stack(outs, dim=2),
            self.kv.weight,
            self.kv.bias,
            implementation=self.implementation,
        )
        return self.proj(to_map(out, context))
