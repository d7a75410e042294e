"""The token mixer of SSViT."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import RotaryLePEAttention
from mmeffvit.ops import apply_rotary, sparse_scan_attention
from mmeffvit.registry import MODELS


@MODELS.register_module()
class S3AMixer(RotaryLePEAttention):
    """Sparse scan self-attention (arXiv 2405.13335): local windows, then anchors, or the reverse.

    Args:
        embed_dims: Channels C; the head dimension must be a multiple of 4.
        num_heads: Heads h.
        window_size: Window W of `mmeffvit.ops.sparse_scan_attention`.
        reverse: Let the map set the local windows and `window_size` the number of anchors.
        max_kernel: Odd limit for kernels, None for the published sizes. Not from the paper.
        per_axis: Sizes of each axis from its own length. Not from the paper.
        implementation: Of `mmeffvit.ops.neighbourhood_attention`; None lets it choose.

    Raises:
        ValueError: The head dimension is not a multiple of 4, `window_size` is not positive, or
            `max_kernel` is not a positive odd number.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: int = 7,
        reverse: bool = False,
        max_kernel: int | None = None,
        per_axis: bool = False,
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads)
        if window_size < 1:
            raise ValueError(f"window_size must be at least 1, got {window_size}")
        if max_kernel is not None and (max_kernel < 1 or max_kernel % 2 == 0):
            raise ValueError(f"max_kernel must be a positive odd number or None, got {max_kernel}")
        self.window_size = window_size
        self.reverse = reverse
        self.max_kernel = max_kernel
        self.per_axis = per_axis
        self.implementation = implementation

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: MapContext) -> Tensor:
        table = context.rotary_2d(self.head_dim)
        q, k = apply_rotary(q, table), apply_rotary(k, table)
        size = (context.height, context.width)
        out = sparse_scan_attention(
            *(t.unflatten(1, size) for t in (q, k, v)),
            self.window_size,
            self.reverse,
            max_kernel=self.max_kernel,
            per_axis=self.per_axis,
            implementation=self.implementation,
        )
        return out.flatten(1, 2)

    def extra_repr(self) -> str:
        return (
            f"num_heads={self.num_heads}, window_size={self.window_size}, reverse={self.reverse}, "
            f"max_kernel={self.max_kernel}, per_axis={self.per_axis}"
        )
