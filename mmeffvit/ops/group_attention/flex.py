"""Attention in groups by `flex_attention`: the bias is read where a logit is, and not laid out."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops import flex
from mmeffvit.ops.flex import ScoreMod
from mmeffvit.ops.group_attention.reference import from_groups, to_groups
from mmeffvit.ops.precision import in_full
from mmeffvit.ops.tables import cached_table

Size = tuple[int, int]


def refuses(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    interval: int = 1,
    *,
    scale: float | None = None,
) -> str | None:
    """Why `flex_attention` cannot run on these arguments, or None."""
    return flex.refuses(q, k, v, bias)


@cached_table(maxsize=64)
def _tokens_and_not_padding(
    size: Size, group: Size, interval: int, device: torch.device
) -> tuple[Tensor, bool]:
    """(groups, r * c) bool, which are tokens or in groups of padding alone; and if all are."""
    real = to_groups(torch.ones(1, *size, device=device), group, interval)[0] > 0
    real = real | ~real.any(-1, keepdim=True)
    return real, bool(real.all())


def attend_in_padded_groups(
    q: Tensor, k: Tensor, v: Tensor, group: Size, interval: int, scale: float, score_mod: ScoreMod
) -> Tensor:
    """Attention inside the groups of (B, H, W, h, d) maps, which are padded until groups are full.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        group: Rows and columns of a group.
        interval: Distance between the tokens of a group.
        scale: Factor of the products of queries and keys.
        score_mod: Of the places in a group.
    """
    batch, size = q.shape[0], tuple(q.shape[1:3])
    real, whole = _tokens_and_not_padding(size, tuple(group), interval, q.device)
    real = real.repeat(batch, 1)

    def without_padding(score, sample, head, query, key):
        changed = score_mod(score, sample, head, query, key)
        return torch.where(real[sample, key], changed, -torch.inf)

    q, k, v = (to_groups(t, group, interval).flatten(0, 1) for t in (q, k, v))
    out = flex.attend(q, k, v, scale, score_mod if whole else without_padding)
    return from_groups(out.unflatten(0, (batch, -1)), size, group, interval)


def group_attention_flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    interval: int = 1,
    *,
    scale: float | None = None,
) -> Tensor:
    """See :func:`mmeffvit.ops.group_attention`."""
    table = in_full(bias).flatten(3, 4).flatten(1, 2)

    def score_mod(score, sample, head, query, key):
        return score + table[head, query, key]

    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return attend_in_padded_groups(q, k, v, bias.shape[1:3], interval, scale, score_mod)
