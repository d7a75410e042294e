"""Drawing of factorization self-attention (FaViT, arXiv 2312.08614)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmeffvit.layers.mixers import FactorizationMixer
from mmeffvit.ops.dilated_summaries import point_places
from mmeffvit.visualization.attention.capture import MixerCall
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    attention_rows,
    register_drawing,
)


def point_map(size: tuple[int, int], window_size: int, dilation: int) -> Tensor:
    """Number of the summary that reads each token: (H, W), NaN where none does.

    Args:
        size: Rows and columns of the map.
        window_size: Summaries on each axis.
        dilation: Distance between the points of a span.
    """
    places = point_places(size, window_size, dilation, torch.device("cpu"))
    numbers = torch.full((size[0] * size[1],), torch.nan)
    # a reflected token may be read twice; the first summary counts
    for number in reversed(range(len(places))):
        numbers[places[number]] = float(number)
    return numbers.view(size)


@register_drawing(FactorizationMixer)
def draw_summaries(call: MixerCall, token: tuple[int, int], heads: Sequence[int]) -> list[MapRow]:
    """Which tokens are summarised with one another, and what the query depends on."""
    maps = []
    for keys in call.mixer.summaries:
        numbers = point_map(call.size, keys.window_size, keys.dilation)
        read = (~numbers.isnan()).float().mean()
        maps.append(TokenMap(numbers, f"{keys.dilation} apart: {read:.0%} of the tokens"))
    side = call.mixer.summaries[0].window_size
    note = (
        f"Tokens of one colour make one of {side}×{side} summaries, which every token of the map "
        "attends to."
    )
    return [
        MapRow(note, maps, "viridis", ("first", "last"), opacity=(0.7, 0.7)),
        *attention_rows(call, token, heads),
    ]
