"""Manhattan attention by `flex_attention`: the decay is computed where a logit is, and no mask."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops import flex
from mmeffvit.ops.manhattan_attention.decay import ManhattanDecay
from mmeffvit.ops.tables import cached_table


def refuses(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: ManhattanDecay,
    *,
    decomposed: bool = False,
    scale: float | None = None,
) -> str | None:
    """Why `flex_attention` cannot run on these arguments, or None."""
    if decomposed:
        return "the masks inside of rows and columns are small: nothing is saved"
    return flex.refuses(q, k, v)


@cached_table(maxsize=64)
def map_places(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column of each token of a map, (L,) int32 each."""
    rows, columns = (torch.arange(n, device=device, dtype=torch.int32) for n in (height, width))
    return rows.repeat_interleave(width), columns.repeat(height)


@cached_table(maxsize=64)
def _table(rates: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(rates, device=device)


def manhattan_attention_flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: ManhattanDecay,
    *,
    decomposed: bool = False,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.manhattan_attention`."""
    row, column = map_places(decay.height, decay.width, q.device)
    rates = _table(decay.rates, q.device)

    def score_mod(score, sample, head, query, key):
        distance = (row[query] - row[key]).abs() + (column[query] - column[key]).abs()
        return score + rates[head] * distance

    return flex.attend(q, k, v, q.shape[-1] ** -0.5 if scale is None else scale, score_mod)
