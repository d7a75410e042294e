"""Stochastic depth per sample (arXiv 1603.09382)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from torch import Tensor, nn


def rising_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Rates of the blocks of every stage, from 0 at the first block to `rate` at the last."""
    last = max(1, sum(depths) - 1)
    rates = iter([rate * index / last for index in range(sum(depths))])
    return [list(islice(rates, depth)) for depth in depths]


class DropPath(nn.Module):
    """Drop a residual branch for whole samples while training, and scale the others up.

    Args:
        drop_prob: Probability of dropping, in [0, 1).

    Raises:
        ValueError: The probability is outside [0, 1).
    """

    def __init__(self, drop_prob: float = 0.0):
        super().__init__()
        if not 0 <= drop_prob < 1:
            raise ValueError(f"the drop path rate must be in [0, 1), got {drop_prob}")
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        mask = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(keep)
        return x * (mask / keep)

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob:.3f}"
