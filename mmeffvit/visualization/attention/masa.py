"""Drawing of Manhattan self-attention (RMT, arXiv 2309.11523)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from mmeffvit.layers.mixers import MaSAMixer
from mmeffvit.visualization.attention.capture import MixerCall
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    attention_rows,
    register_drawing,
)


def decay_maps(call: MixerCall, token: tuple[int, int]) -> Tensor:
    """Factor that distance from a token puts on the exponentials of the softmax: (h, H, W).

    It is the same for both forms: the decomposed one applies the part of the row, then that of the
    column, and their product is the factor of the full one.
    """
    decay = call.mixer.positions(call.context).decay
    row, column = token
    return (decay.along_height[:, row, :, None] + decay.along_width[:, column, None, :]).exp()


@register_drawing(MaSAMixer)
def draw_decay(call: MixerCall, token: tuple[int, int], heads: Sequence[int]) -> list[MapRow]:
    """Decay around the query, and the attention that results."""
    factors = decay_maps(call, token)
    maps = [
        TokenMap(
            factors[head],
            f"head {head}: halves in {math.log(0.5) / call.mixer.rates[head]:.1f} tokens",
            (0, 1),
        )
        for head in heads
    ]
    if call.mixer.core.decomposed:
        form = "decomposed: along rows, then along columns"
    else:
        form = "full: over all tokens at once"
    return [
        MapRow(
            "Decay with the distance |Δy| + |Δx| from the marked token, a rate per head.",
            maps,
            legend=("0", "factor 1"),
        ),
        *attention_rows(
            call,
            token,
            heads,
            f"Attention of the marked token ({form}), as multiples of the mean weight.",
        ),
    ]
