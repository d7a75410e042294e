"""Attention with tables of offsets: Gaussian mixture masks, and URPE."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import QKVProjection, TokenMixer, to_map
from mmeffvit.layers.offset_tables import GaussianMixtureGain, URPETables
from mmeffvit.ops import relative_attention
from mmeffvit.registry import MODELS


class RelativePositions(NamedTuple):
    """Size of a map, and the tables of `mmeffvit.ops.relative_attention`; None where it has none.

    Attributes:
        size: Rows and columns.
        gain: What logits are multiplied by, by head and offset.
        bias: What is added to them.
        factor: What the weights are multiplied by, after the softmax.
    """

    size: tuple[int, int]
    gain: Tensor | None = None
    bias: Tensor | None = None
    factor: Tensor | None = None


class RelativeAttention(nn.Module):
    """Softmax attention with tables of offsets, among the tokens of a map or of a window.

    Args:
        window_size: Rows and columns of a window, which is smaller where the map ends; None for the
            whole map.
        implementation: Of `mmeffvit.ops.relative_attention`; None lets it choose.

    Raises:
        ValueError: The window is not positive.
    """

    def __init__(self, window_size: int | None = None, implementation: str | None = None):
        super().__init__()
        if window_size is not None and window_size < 1:
            raise ValueError(f"window_size must be at least 1 or None, got {window_size}")
        self.window_size = window_size
        self.implementation = implementation

    def forward(self, q: Tensor, k: Tensor, v: Tensor, positions: RelativePositions) -> Tensor:
        """Attention over tokens (B, L, h, d) of a map in row-major order."""
        size, *tables = positions
        window = None if self.window_size is None else (self.window_size, self.window_size)
        q, k, v = (t.unflatten(1, size) for t in (q, k, v))
        tables = dict(zip(("gain", "bias", "factor"), tables, strict=True))
        out = relative_attention(q, k, v, window, **tables, implementation=self.implementation)
        return out.flatten(1, 2)

    def extra_repr(self) -> str:
        return f"window_size={self.window_size}"


class RelativeMixer(TokenMixer):
    """What mixers with tables of offsets have in common.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        tables: Makes tables of offsets.
        window_size: See `RelativeAttention`.
        qkv_bias: Whether the projection to q, k and v has a bias.
        implementation: See `RelativeAttention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        tables: nn.Module,
        window_size: int | None,
        qkv_bias: bool,
        implementation: str | None,
    ):
        super().__init__(embed_dims, num_heads)
        self.qkv = QKVProjection(embed_dims, num_heads, bias=qkv_bias)
        self.tables = tables
        self.core = RelativeAttention(window_size, implementation)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    def window(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the windows of a map."""
        side = self.core.window_size
        return size if side is None else (side, side)

    def positions(self, context: MapContext) -> RelativePositions:
        raise NotImplementedError

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        q, k, v = self.qkv(x)
        return self.proj(to_map(self.core(q, k, v, self.positions(context)), context))


@MODELS.register_module()
class GaussianMixtureMixer(RelativeMixer):
    """Attention with Gaussian mixture masks (arXiv 2309.05375): near logits count for more.

    The logits are multiplied by a mixture of Gaussians of the distance before the softmax, so that
    far keys have a logit near zero; none is masked out. The cost stays that of full attention,
    unless there are windows.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        window_size: See `RelativeAttention`.
        num_kernels: See `GaussianMixtureGain`.
        truncate: See `GaussianMixtureGain`.
        init: See `GaussianMixtureGain`.
        qkv_bias: Whether the projection to q, k and v has a bias; the authors' has none.
        implementation: See `RelativeAttention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: int | None = None,
        num_kernels: int = 5,
        truncate: bool = False,
        init: str = "published",
        qkv_bias: bool = True,
        implementation: str | None = None,
    ):
        gain = GaussianMixtureGain(num_heads, num_kernels, truncate, init)
        super().__init__(embed_dims, num_heads, gain, window_size, qkv_bias, implementation)

    def positions(self, context: MapContext) -> RelativePositions:
        return RelativePositions(
            context.size, gain=self.tables.of_window(self.window(context.size))
        )


@MODELS.register_module()
class URPEMixer(RelativeMixer):
    """Attention with universal relative positions (arXiv 2205.13401): also the weights have some.

    Softmax weights are multiplied by a learnt factor per head and offset, and do not sum to one
    then: a layer can say where its tokens are, whatever they hold.

    Args:
        embed_dims: Channels C.
        num_heads: Heads h.
        window_size: See `RelativeAttention`; the tables are those of a window.
        grid_size: Without windows, rows and columns of the map that the tables are made for; they
            are resized to others.
        qkv_bias: Whether the projection to q, k and v has a bias.
        implementation: See `RelativeAttention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: int | None = 7,
        grid_size: tuple[int, int] = (14, 14),
        qkv_bias: bool = True,
        implementation: str | None = None,
    ):
        window = tuple(grid_size) if window_size is None else (window_size, window_size)
        if min(window) < 1:
            raise ValueError(f"window_size and grid_size must be positive, got {window}")
        tables = URPETables(num_heads, window)
        super().__init__(embed_dims, num_heads, tables, window_size, qkv_bias, implementation)

    def positions(self, context: MapContext) -> RelativePositions:
        bias, factor = self.tables.of_window(self.window(context.size))
        return RelativePositions(context.size, bias=bias, factor=factor)
