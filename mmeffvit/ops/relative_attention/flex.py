"""Attention with tables of offsets by `flex_attention`: tables are read where a logit is."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops import flex
from mmeffvit.ops.group_attention.flex import attend_in_padded_groups
from mmeffvit.ops.precision import in_full
from mmeffvit.ops.tables import cached_table


def refuses(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: tuple[int, int] | None = None,
    *,
    gain: Tensor | None = None,
    bias: Tensor | None = None,
    factor: Tensor | None = None,
    scale: float | None = None,
) -> str | None:
    """Why `flex_attention` cannot run on these arguments, or None."""
    if factor is not None:
        return "flex_attention changes logits, and a factor is of the weights after the softmax"
    return flex.refuses(q, k, v, gain, bias)


@cached_table(maxsize=64)
def _places(rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of each token as a key and as a query: a key's minus a query's is their place in a table."""
    down, right = (torch.arange(n, device=device, dtype=torch.int32) for n in (rows, columns))
    keys = (down[:, None] * (2 * columns - 1) + right).flatten()
    return keys, keys - keys[-1]


def relative_attention_flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: tuple[int, int] | None = None,
    *,
    gain: Tensor | None = None,
    bias: Tensor | None = None,
    factor: None = None,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.relative_attention`."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    size = tuple(q.shape[1:3])
    of_key, of_query = _places(*(size if window is None else window), q.device)
    gains, biases = (None if t is None else in_full(t).flatten(1) for t in (gain, bias))

    def score_mod(score, sample, head, query, key):
        place = of_key[key] - of_query[query]
        if gains is not None:
            score = score * gains[head, place]
        return score if biases is None else score + biases[head, place]

    if window is None:
        q, k, v = (t.flatten(1, 2) for t in (q, k, v))
        return flex.attend(q, k, v, scale, score_mod).unflatten(1, size)
    return attend_in_padded_groups(q, k, v, window, 1, scale, score_mod)
