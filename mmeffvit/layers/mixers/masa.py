"""The token mixer of RMT."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers.base import LePEAttention
from mmeffvit.ops import apply_rotary
from mmeffvit.ops.manhattan_attention import decay_rates, manhattan_attention
from mmeffvit.registry import MODELS


@MODELS.register_module()
class MaSAMixer(LePEAttention):
    """Manhattan self-attention (arXiv 2309.11523, section 3): logits fall with distance.

    Queries and keys are rotated by the index of their pixel, counted row by row.

    Args:
        embed_dims: Channels C; the head dimension must be even.
        num_heads: Heads h.
        decay_init: Exponent of the first head's decay; see `mmeffvit.ops.decay_rates`.
        decay_range: Range of the heads' exponents; a larger one lets later heads look farther.
        decomposed: Attention along rows, then along columns, in place of the whole map: cost grows
            with the area to the power of 1.5, not 2.
        implementation: Of `mmeffvit.ops.manhattan_attention`; None lets it choose.

    Raises:
        ValueError: The head dimension is odd, or a decay exponent is not positive.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        decay_init: float = 2,
        decay_range: float = 4,
        decomposed: bool = False,
        implementation: str | None = None,
    ):
        super().__init__(embed_dims, num_heads)
        if self.head_dim % 2:
            raise ValueError(
                "MaSAMixer encodes positions in pairs of channels: embed_dims / num_heads must be "
                f"even, got {embed_dims} / {num_heads}"
            )
        self.rates = decay_rates(num_heads, decay_init, decay_range)
        self.decay_init = decay_init
        self.decay_range = decay_range
        self.decomposed = decomposed
        self.implementation = implementation

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: MapContext) -> Tensor:
        table = context.rotary_1d(self.head_dim)
        return manhattan_attention(
            apply_rotary(q, table),
            apply_rotary(k, table),
            v,
            context.manhattan_decay(self.rates),
            decomposed=self.decomposed,
            implementation=self.implementation,
        )

    def extra_repr(self) -> str:
        return (
            f"num_heads={self.num_heads}, decay_init={self.decay_init}, "
            f"decay_range={self.decay_range}, decomposed={self.decomposed}"
        )
