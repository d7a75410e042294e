"""Drawing of short- and long-distance attention (CrossFormer, arXiv 2108.00154)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmeffvit.layers.mixers import CrossScaleMixer
from mmeffvit.ops.group_attention import map_groups
from mmeffvit.visualization.attention.capture import MixerCall
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    attention_rows,
    register_drawing,
)


def group_map(call: MixerCall) -> Tensor:
    """Number of the group that each token of a map is in: (H, W) int64."""
    group, interval = call.mixer.groups(call.size)
    groups = map_groups(call.size, group, interval, call.x.device)
    numbers = torch.empty(call.context.num_tokens, dtype=torch.int64)
    first = count = 0
    for kind in groups.kinds:
        tokens = groups.order[first : first + kind.tokens].view(kind.count, -1)
        numbers[tokens] = torch.arange(count, count + kind.count)[:, None]
        first, count = first + kind.tokens, count + kind.count
    return numbers.unflatten(0, call.size)


@register_drawing(CrossScaleMixer)
def draw_groups(call: MixerCall, token: tuple[int, int], heads: Sequence[int]) -> list[MapRow]:
    """The group of the query, with the bias of each place, and the attention that results."""
    (rows, columns), interval = call.mixer.groups(call.size)
    numbers = group_map(call)
    own = numbers == numbers[token]
    bias = call.mixer.positions(call.context)[1].detach()
    # places in the group: offsets by the interval from the first token of the region
    y, x = (torch.arange(n) for n in call.size)
    y, x = y % (rows * interval) // interval, x % (columns * interval) // interval
    factors = bias[:, y[token[0]], x[token[1]]][:, y][:, :, x].exp()
    factors = torch.where(own, factors, torch.nan)
    distance = "neighbours" if interval == 1 else f"{interval} tokens apart"
    maps = [TokenMap(factors[head], f"head {head}: {int(own.sum())} tokens") for head in heads]
    return [
        MapRow(
            f"Tokens of the group of the marked one ({distance}), with the factor of their bias.",
            maps,
            opacity=(0.6, 0.75),
        ),
        *attention_rows(
            call,
            token,
            heads,
            "Attention of the marked token inside its group, as multiples of the mean weight.",
        ),
    ]
