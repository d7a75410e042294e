"""Token mixers of point networks: (N, C) tokens and their level in, (N, C) out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.mixers.base import Mixer
from mmeffvit.layers.points.level import PointLevel, relative_bins
from mmeffvit.layers.points.sparse_conv import DepthwiseSubMConv3d
from mmeffvit.ops.points import window_attention
from mmeffvit.registry import MODELS


class PointMixer(Mixer):
    """Mixes the tokens of every sample: (N, C) -> (N, C).

    Args:
        embed_dims: Channels C.
        num_heads: Heads h; C must be a multiple.
        shifted: Every other block of a stage is; what it means is the mixer's own.
    """

    def __init__(self, embed_dims: int, num_heads: int, shifted: bool = False):
        super().__init__(embed_dims, num_heads)
        self.shifted = shifted

    def forward(self, x: Tensor, level: PointLevel) -> Tensor:
        raise NotImplementedError


class LocalStructure(nn.Module):
    """Local structure enhancement of ConDaFormer: half of the channels look at the neighbours.

    Concatenates ``BN(W x)`` and ``BN(W' GELU(BN(depthwise 3x3x3 x)))``, without a residual.

    Args:
        embed_dims: Channels C, even.
        implementation: Of `mmeffvit.ops.points.depthwise_submanifold_conv3d`.
    """

    def __init__(self, embed_dims: int, implementation: str | None = None):
        super().__init__()
        half = embed_dims // 2
        self.point = nn.Linear(embed_dims, half, bias=False)
        self.point_norm = nn.BatchNorm1d(half)
        self.depthwise = DepthwiseSubMConv3d(embed_dims, implementation)
        self.depthwise_norm = nn.BatchNorm1d(embed_dims)
        self.linear = nn.Linear(embed_dims, half)
        self.linear_norm = nn.BatchNorm1d(half)

    def forward(self, x: Tensor, level: PointLevel) -> Tensor:
        around = F.gelu(self.depthwise_norm(self.depthwise(x, level.neighbours)))
        own, around = self.point_norm(self.point(x)), self.linear_norm(self.linear(around))
        return torch.cat((own, around), dim=1)


@MODELS.register_module()
class TriPlaneMixer(PointMixer):
    """Attention in windows of three planes, between two local structures (arXiv 2312.11112).

    A third of the heads attends in windows of the plane xy, one of xz, one of yz; windows are one
    cell thick. One set of relative-position tables serves the three planes.

    Args:
        embed_dims: Channels C, even.
        num_heads: Heads h, a multiple of 3.
        shifted: Move the windows by half their sides.
        window_size: Side of a window in cells.
        quant_size: Length of a relative-position bin, in cells.
        per_sample_windows: Start windows at the corner of each sample. As published they start at
            the corner of the batch, so that a sample's output depends on the others in its batch;
            published weights were trained that way.
        implementation: Of `mmeffvit.ops.points`; None lets them choose.

    Raises:
        ValueError: The heads do not split into three planes, the width is odd, or bins do not
            divide the window.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        shifted: bool = False,
        window_size: int = 8,
        quant_size: float = 0.25,
        per_sample_windows: bool = False,
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads, shifted)
        if num_heads % 3 or embed_dims % 2:
            raise ValueError(
                "TriPlaneMixer gives a third of the heads to each plane and half of the channels "
                f"to each branch: num_heads must be a multiple of 3 and embed_dims even, got "
                f"{num_heads} and {embed_dims}"
            )
        steps = window_size / quant_size
        if window_size < 1 or quant_size > 1 or abs(steps - round(steps)) > 1e-3:
            raise ValueError(
                "quant_size must be at most one cell and divide window_size, got "
                f"{quant_size} and {window_size}"
            )
        self.window_size = window_size
        self.quant_size = quant_size
        self.per_sample_windows = per_sample_windows
        self.implementation = implementation
        self.local_pre = LocalStructure(embed_dims, implementation)
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        rows = 2 * relative_bins(window_size, quant_size) - 1
        for name in ("q_table", "k_table", "v_table"):
            table = torch.empty(rows, 3, num_heads // 3, self.head_dim)
            setattr(self, name, nn.Parameter(table))
        self.local_post = LocalStructure(embed_dims, implementation)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for table in (self.q_table, self.k_table, self.v_table):
            nn.init.trunc_normal_(table, std=0.02)

    def project(self, x: Tensor, level: PointLevel) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled queries, keys and values, (N, h, d) each."""
        qkv = self.qkv(self.local_pre(x, level)).view(len(x), 3, self.num_heads, self.head_dim)
        q, k, v = qkv.unbind(1)
        return q * self.head_dim**-0.5, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, level: PointLevel) -> Tensor:
        """(N, h, d) each to (N, h, d)."""
        planes = level.plane_windows(
            self.window_size, self.quant_size, self.shifted, self.per_sample_windows
        )
        tables = (self.q_table, self.k_table, self.v_table)
        thirds = (t.chunk(3, dim=1) for t in (q, k, v))
        return torch.cat(
            [
                window_attention(*heads, *tables, windows, implementation=self.implementation)
                for *heads, windows in zip(*thirds, planes)
            ],
            dim=1,
        )

    def forward(self, x: Tensor, level: PointLevel) -> Tensor:
        out = self.attend(*self.project(x, level), level).flatten(1)
        return self.proj(self.local_post(out, level))

    def extra_repr(self) -> str:
        return (
            f"num_heads={self.num_heads}, window_size={self.window_size}, "
            f"quant_size={self.quant_size}, shifted={self.shifted}"
        )
