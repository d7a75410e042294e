"""The pixel decoder of kMaX-DeepLab: from the coarsest map to the finest, axial attention first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers import LayerNorm2d
from mmeffvit.models.heads.kmax.blocks import NORM, ConvNorm, init_normal

#: rows or columns that tables of relative positions reach over
MAX_LENGTH = 255


class AxialAttention(nn.Module):
    """Attention along one axis, with relative positions in the logits and in what comes out.

    With q, k of w channels and v of 2w, in h heads, and a table R of relative positions for each:
    logits BN(q_l k_m) + BN(q_l Rq[m-l]) + BN(k_m Rk[m-l]), without a scale, a softmax over m, and
    out of it BN(sum P v_m) + BN(sum P Rv[m-l]) (Axial-DeepLab, arXiv 2003.07853, equation 4).

    Args:
        in_dim: Input channels.
        dim: w, channels of keys; 2w come out.
        num_heads: h; must divide w.
    """

    def __init__(self, in_dim: int, dim: int, num_heads: int = 8):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{num_heads} heads do not divide {dim} channels")
        self.dim, self.num_heads = dim, num_heads
        self.qkv = nn.Conv1d(in_dim, 4 * dim, 1, bias=False)
        self.qkv_norm = nn.BatchNorm1d(4 * dim, **NORM)
        head_dim = dim // num_heads
        tables = (nn.Embedding(2 * MAX_LENGTH - 1, d) for d in (head_dim, head_dim, 2 * head_dim))
        self.query_table, self.key_table, self.value_table = tables
        self.logit_norm = nn.BatchNorm2d(3 * num_heads, **NORM)
        self.out_norm = nn.BatchNorm1d(4 * dim, **NORM)
        init_normal(self.qkv.weight, in_dim**-0.5)
        for table in (self.query_table, self.key_table, self.value_table):
            init_normal(table.weight, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Lines (B, C, L) to (B, 2w, L).

        Raises:
            ValueError: A line is longer than the tables.
        """
        length = x.shape[-1]
        if length > MAX_LENGTH:
            raise ValueError(
                f"a map is {length} pixels long, but the axial attention of the pixel decoder has "
                f"positions for {MAX_LENGTH}. Take smaller images, or kind 'bottleneck' there."
            )
        qkv = self.qkv_norm(self.qkv(x)).unflatten(1, (self.num_heads * 4, -1))
        q, k, v = self._split(qkv)
        place = torch.arange(length, device=x.device)
        offset = place - place[:, None] + MAX_LENGTH - 1  # row l, column m
        of_q, of_k, of_v = (
            table(offset) for table in (self.query_table, self.key_table, self.value_table)
        )
        logits = (
            torch.einsum("bhdl,bhdm->bhlm", q, k),
            torch.einsum("bhdl,lmd->bhlm", q, of_q),
            torch.einsum("bhdm,lmd->bhlm", k, of_k),
        )
        logits = self.logit_norm(torch.cat(logits, 1)).unflatten(1, (3, -1)).sum(1)
        weights = logits.softmax(-1, dtype=torch.float32).to(v.dtype)
        outs = (
            torch.einsum("bhlm,bhdm->bhdl", weights, v),
            torch.einsum("bhlm,lmd->bhdl", weights, of_v),
        )
        out = self.out_norm(torch.cat(outs, 1).flatten(1, 2))
        return out.unflatten(1, (2, -1)).sum(1)

    def _split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 4h, w/h, L) to q and k (B, h, w/h, L) and v (B, h, 2w/h, L)."""
        h = self.num_heads
        v = qkv[:, 2 * h :].unflatten(1, (h, 2)).flatten(2, 3)
        return qkv[:, :h], qkv[:, h : 2 * h], v


class AxialAttention2d(nn.Module):
    """Along columns, then along rows: (B, C, H, W) to (B, 2w, H, W); see `AxialAttention`."""

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.height = AxialAttention(in_dim, dim)
        self.width = AxialAttention(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        x = self.height(x.permute(0, 3, 1, 2).flatten(0, 1))  # (B W, C, H)
        x = x.unflatten(0, (batch, width)).permute(0, 3, 2, 1).flatten(0, 1)  # (B H, C, W)
        return self.width(x).unflatten(0, (batch, height)).transpose(1, 2)


class PixelBlock(nn.Module):
    """A bottleneck with axial attention or a 3x3 convolution; 4w channels come out.

    The residual is the activated input, and no activation follows the sum.

    Args:
        in_dim: Input channels.
        dim: Base width w.
        kind: ``'axial'`` or ``'bottleneck'``.
    """

    def __init__(self, in_dim: int, dim: int, kind: str):
        super().__init__()
        axial = kind == "axial"
        inner = 2 * dim if axial else dim
        self.shortcut = ConvNorm(in_dim, 4 * dim, act=False) if in_dim != 4 * dim else nn.Identity()
        self.conv1 = ConvNorm(in_dim, inner)
        if axial:
            self.mix = nn.Sequential(AxialAttention2d(inner, dim), nn.GELU())
        else:
            self.mix = ConvNorm(inner, dim, 3)
        self.conv3 = ConvNorm(inner, 4 * dim, act=False, zero_init=True)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(x)
        return self.conv3(self.mix(self.conv1(x))) + self.shortcut(x)


class Fuse(nn.Module):
    """A coarse map, brought to the size of a finer one, plus that one.

    Args:
        low_dim: Channels of the coarse map.
        high_dim: Channels of the fine map.
        dim: Channels of the sum.
    """

    def __init__(self, low_dim: int, high_dim: int, dim: int):
        super().__init__()
        self.low, self.high = (
            nn.Sequential(nn.GELU(), ConvNorm(d, dim, act=False)) if d != dim else nn.Identity()
            for d in (low_dim, high_dim)
        )

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        low = resize(self.low(low), high.shape[-2:], align_corners=low.shape[-1] % 2 == 1)
        return low + self.high(high)


def resize(x: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Bilinear, to a size (H, W)."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=align_corners)


class PixelDecoder(nn.Module):
    """Maps of a backbone to one map per level, from coarse to fine.

    Args:
        in_channels: Of the maps, coarse to fine.
        depths: Blocks per level.
        widths: Base width w per level; 4w channels come out.
        kinds: ``'axial'`` or ``'bottleneck'``, per level.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        depths: Sequence[int] = (1, 5, 1, 1),
        widths: Sequence[int] = (512, 256, 128, 64),
        kinds: Sequence[str] = ("axial", "axial", "bottleneck", "bottleneck"),
    ):
        super().__init__()
        self._check(in_channels, depths, widths, kinds)
        self.norms = nn.ModuleList(LayerNorm2d(dim, eps=1e-6) for dim in in_channels)
        self.stages, self.fuses = nn.ModuleList(), nn.ModuleList()
        for level, (depth, width, kind) in enumerate(zip(depths, widths, kinds)):
            in_dim = in_channels[0]
            if level:
                in_dim = width
                self.fuses.append(Fuse(4 * widths[level - 1], in_channels[level], width))
            dims = (in_dim, *[4 * width] * (depth - 1))
            self.stages.append(nn.Sequential(*(PixelBlock(dim, width, kind) for dim in dims)))
        self.out_channels = tuple(4 * width for width in widths)

    @staticmethod
    def _check(in_channels: Sequence, depths: Sequence, widths: Sequence, kinds: Sequence) -> None:
        lengths = {len(in_channels), len(depths), len(widths), len(kinds)}
        if len(lengths) != 1 or len(in_channels) < 3:
            raise ValueError(
                "the pixel decoder needs in_channels, depths, widths and kinds of one length, and "
                f"three levels or more; got {len(in_channels)} maps, depths={tuple(depths)}, "
                f"widths={tuple(widths)}, kinds={tuple(kinds)}"
            )
        strange = set(kinds) - {"axial", "bottleneck"}
        if strange or min(depths) < 1:
            raise ValueError(
                "kinds of the pixel decoder are 'axial' and 'bottleneck', each with a depth of at "
                f"least 1; got kinds={tuple(kinds)}, depths={tuple(depths)}"
            )

    def forward(self, feats: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_i, H_i, W_i), coarse to fine, to (B, 4w_i, H_i, W_i)."""
        outs: list[Tensor] = []
        for level, (norm, stage) in enumerate(zip(self.norms, self.stages)):
            x = norm(feats[level])
            if level:
                x = self.fuses[level - 1](outs[-1], x)
            outs.append(stage(x))
        return outs
