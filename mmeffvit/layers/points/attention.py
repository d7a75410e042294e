"""The attentions of the image mixers on points: the same cores, one sample after the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeffvit.layers.mixers.base import project_output
from mmeffvit.layers.mixers.rala import RALAttention, RotarySoftmaxAttention
from mmeffvit.layers.mixers.sec import SECAttention
from mmeffvit.layers.points.level import PointLevel
from mmeffvit.layers.points.mixers import PointMixer
from mmeffvit.layers.points.sparse_conv import DepthwiseSubMConv3d
from mmeffvit.registry import MODELS

POSITIONS = ("rotary", "learned", None)


class PointAttention(PointMixer):
    """Projection to q, k, v; a core; a depth-wise convolution of v added; projection.

    The convolution is 3x3x3, on occupied cells. A sample is one sequence, so that its result does
    not depend on its batch mates, and cost is that of the core.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        core: Attention of tokens (1, L, h, d) with their (L, d/2, 2) rotary table, such as
            `mmeffvit.layers.SECAttention`.
        gated: Multiply what attention made by a fourth projection; see `project_output`.
        shifted: Taken, as all point mixers do; attention over a whole sample has no windows.
        position: 'rotary' turns queries and keys by their coordinates in cells of the level, the
            channel pairs divided over x, y and z: only differences matter, at any distance.
            'learned' adds a small network of the place in the sample (its bounding cube, -1 to 1)
            to the tokens, so that values and gate know places too: height above the floor, say.
            None: positions enter through the convolution alone.
        rotary_base: Ratio of the largest to the smallest frequency of 'rotary'.

    Raises:
        ValueError: `position` is none of these, or the head dimension is odd or, with 'rotary',
            less than 6.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        core: nn.Module,
        gated: bool = False,
        shifted: bool = False,
        position: str | None = "rotary",
        rotary_base: float = 100.0,
    ):
        super().__init__(embed_dims, num_heads, shifted)
        if position not in POSITIONS:
            raise ValueError(f"position must be 'rotary', 'learned' or None, got {position!r}")
        least = 6 if position == "rotary" else 2
        if self.head_dim % 2 or self.head_dim < least:
            raise ValueError(
                f"{type(self).__name__} with position={position!r} needs heads of an even number "
                f"of channels, {least} or more, got {embed_dims} / {num_heads}"
            )
        self.core = core
        self.position = position
        self.rotary_base = rotary_base
        if position == "learned":
            self.places = nn.Sequential(
                nn.Linear(3, embed_dims), nn.GELU(), nn.Linear(embed_dims, embed_dims)
            )
        self.qkv = nn.Linear(embed_dims, (4 if gated else 3) * embed_dims)
        self.lepe = DepthwiseSubMConv3d(embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def positions(self, level: PointLevel) -> Tensor:
        """(N, d/2, 2) rotary table of all points."""
        if self.position == "rotary":
            return level.rotary_3d(self.head_dim, self.rotary_base)
        return level.no_rotation(self.head_dim)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, level: PointLevel) -> Tensor:
        """(N, h, d) each to (N, h, d): every sample a sequence of its own."""
        table = self.positions(level)
        out = [
            self.core(q[rows][None], k[rows][None], v[rows][None], table[rows])[0]
            for rows in level.samples
        ]
        return out[0] if len(out) == 1 else torch.cat(out)

    def forward(self, x: Tensor, level: PointLevel) -> Tensor:
        if self.position == "learned":
            x = x + self.places(level.places.to(self.qkv.weight.dtype))
        q, k, v, *gate = self.qkv(x).view(len(x), -1, self.num_heads, self.head_dim).unbind(1)
        v = v.contiguous()
        out, gate = self.attend(q, k, v, level).flatten(1), [g.flatten(1) for g in gate]
        return project_output(self.proj, out + self.lepe(v.flatten(1), level.neighbours), *gate)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, position={self.position!r}"


@MODELS.register_module()
class PointSECMixer(PointAttention):
    """Attention inside equal clusters of a sample's points (`mmeffvit.layers.SECMixer`).

    With ``num_clusters`` of 2 or more and ``tokens_per_cluster``, cost is linear in the points;
    with one cluster it is plain attention over the sample.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        num_clusters: See `SECAttention`.
        tokens_per_cluster: See `SECAttention`.
        implementation: See `SECAttention`.
        **kwargs: ``shifted``, ``position`` and ``rotary_base`` of `PointAttention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_clusters: int = 1,
        tokens_per_cluster: int | None = None,
        implementation: str | None = None,
        **kwargs,
    ):
        core = SECAttention(num_clusters, tokens_per_cluster, implementation)
        super().__init__(embed_dims, num_heads, core, **kwargs)


@MODELS.register_module()
class PointRALAMixer(PointAttention):
    """Gated rank-augmented linear attention over a sample's points (`mmeffvit.layers.RALAMixer`).

    Cost is linear in the points.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        implementation: See `RALAttention`.
        **kwargs: ``shifted``, ``position`` and ``rotary_base`` of `PointAttention`.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, implementation: str | None = None, **kwargs
    ):
        super().__init__(embed_dims, num_heads, RALAttention(implementation), gated=True, **kwargs)


@MODELS.register_module()
class PointGatedSoftmaxMixer(PointAttention):
    """Gated softmax attention over a sample's points (`mmeffvit.layers.GatedSoftmaxMixer`).

    Cost is quadratic in the points of a sample: for coarse levels.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        implementation: See `RotarySoftmaxAttention`.
        **kwargs: ``shifted``, ``position`` and ``rotary_base`` of `PointAttention`.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, implementation: str | None = None, **kwargs
    ):
        core = RotarySoftmaxAttention(implementation)
        super().__init__(embed_dims, num_heads, core, gated=True, **kwargs)
