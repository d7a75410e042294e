"""Drawing of rank-augmented linear attention (RAVLT, arXiv 2411.07635)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmeffvit.layers.mixers import RALAMixer
from mmeffvit.ops import rala_token_weights
from mmeffvit.visualization.attention.capture import MixerCall
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    attention_rows,
    range_title,
    register_drawing,
)


def weight_maps(call: MixerCall) -> Tensor:
    """How much every token adds to the state of its head, as a multiple of the mean: (h, H, W)."""
    q, k, _ = call.tokens
    return rala_token_weights(q, k)[0].unflatten(-1, call.size) * call.context.num_tokens


@register_drawing(RALAMixer)
def draw_token_weights(
    call: MixerCall, token: tuple[int, int], heads: Sequence[int]
) -> list[MapRow]:
    """Weights of the tokens, which all queries share, and what one query makes of the state."""
    weights = weight_maps(call)
    return [
        MapRow(
            "Weight of every token in the state that all queries share, as multiples of the mean.",
            [TokenMap(weights[head], range_title(head, weights[head])) for head in heads],
        ),
        *attention_rows(
            call,
            token,
            heads,
            "What the marked token takes from every token through that state; positions can make "
            "it negative.",
        ),
    ]
