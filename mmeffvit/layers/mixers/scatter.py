"""The token mixer of SVT's first stages: gating between a wavelet transform and its inverse."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import TokenMixer
from mmeffvit.layers.position_table import PositionTable
from mmeffvit.ops import spectral_gating
from mmeffvit.ops.tables import refuse_jit_trace
from mmeffvit.registry import MODELS

#: groups of channels whose bands are mixed with one another
GROUPS = 4


@MODELS.register_module()
class ScatterMixer(TokenMixer):
    """Spectral gating (SVT, arXiv 2311.01310, section 3); cost grows linearly with the area.

    A map becomes a low-pass map, which a learnt gain per channel and place multiplies, and six
    complex bands, whose channels two complex layers mix; then the transform is undone. A row or
    column more stands for an odd side; the map of gains is resized to others, bicubically.

    Args:
        embed_dims: Channels C, a multiple of 4.
        num_heads: Heads, which this mixer does not have: any number that divides C.
        gate_size: Rows and columns of the map of gains: those of the map that it was made for.
        implementation: Of `mmeffvit.ops.spectral_gating`; None lets it choose.

    Raises:
        ValueError: C is no multiple of 4, or of `num_heads`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int = 1,
        gate_size: tuple[int, int] = (56, 56),
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads)
        if embed_dims % GROUPS:
            raise ValueError(
                f"ScatterMixer mixes {GROUPS} groups of channels: embed_dims must be a multiple of "
                f"{GROUPS}, got {embed_dims}"
            )
        self.implementation = implementation
        size = embed_dims // GROUPS
        self.gate = PositionTable(embed_dims, tuple(gate_size))
        # real and imaginary parts; the third axis of weights are inputs
        self.weight1, self.weight2 = (
            nn.Parameter(torch.empty(2, GROUPS, size, size)) for _ in range(2)
        )
        self.bias1, self.bias2 = (nn.Parameter(torch.empty(2, GROUPS, size)) for _ in range(2))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        even = even_sides(x)
        gate = self.gate.of_map(*even.shape[2:])[0]
        weights = (self.weight1, self.bias1, self.weight2, self.bias2)
        out = spectral_gating(even, gate, *weights, implementation=self.implementation)
        return _first(out, context.size)


def even_sides(x: Tensor) -> Tensor:
    """A map (B, C, H, W) whose last row and column are repeated where a side is odd."""
    if not torch.compiler.is_compiling():
        refuse_jit_trace()
        bottom, right = (n % 2 for n in x.shape[2:])
        return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x
    for axis in (2, 3):
        side = x.shape[axis]
        places = torch.arange(2 * ((side + 1) // 2), device=x.device)
        x = x.index_select(axis, places.clamp(max=side - 1))
    return x


def _first(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The first rows and columns of a map."""
    if not torch.compiler.is_compiling():
        return x[..., : size[0], : size[1]]
    # a slice would have the graph ask whether the map is long enough
    for axis, side in zip((2, 3), size):
        x = x.index_select(axis, torch.arange(side, device=x.device))
    return x
