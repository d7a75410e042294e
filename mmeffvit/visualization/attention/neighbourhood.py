"""Drawing of neighbourhood attention (NAT, arXiv 2204.07143; DiNAT, arXiv 2209.15001)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmeffvit.layers.mixers import NeighbourhoodMixer
from mmeffvit.ops import neighbour_positions
from mmeffvit.visualization.attention.capture import MixerCall
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    attention_rows,
    range_title,
    register_drawing,
)


def bias_maps(call: MixerCall, token: tuple[int, int]) -> Tensor:
    """Factor that the relative bias puts on the exponentials of the softmax.

    Args:
        call: The mixer at work.
        token: Row and column of the query.

    Returns:
        (h, H, W), NaN where the token does not look.
    """
    core = call.mixer.core
    kernel = core.kernel_size
    places, distances = [], []
    for side, place, dilation in zip(call.size, token, core.dilations(call.size)):
        read = neighbour_positions(max(side, kernel * dilation), kernel, dilation)[place]
        read = read[read < side]
        places.append(read)
        distances.append((read - place) // dilation + kernel - 1)
    bias = core.rpb.detach().cpu()
    factors = torch.full((len(bias), *call.size), torch.nan)
    rows, columns = places
    factors[:, rows[:, None], columns] = bias[:, distances[0][:, None], distances[1]].exp()
    return factors


@register_drawing(NeighbourhoodMixer)
def draw_neighbours(call: MixerCall, token: tuple[int, int], heads: Sequence[int]) -> list[MapRow]:
    """The neighbours with their relative biases, and the attention that results."""
    core = call.mixer.core
    rows, columns = core.dilations(call.size)
    apart = f"{rows} apart" if rows == columns else f"{rows} and {columns} apart"
    window = f"{core.kernel_size}×{core.kernel_size} tokens, {apart}"
    factors = bias_maps(call, token)
    maps = [TokenMap(factors[h], range_title(h, factors[h][~factors[h].isnan()])) for h in heads]
    note = "Attention of the marked token, as multiples of the mean weight of the map."
    beyond = 1 - float(call.attention_of(token).sum((1, 2)).mean())
    if beyond > 1e-3:
        note += f" {beyond:.0%} of it goes to places beyond the map, which is continued there."
    return [
        MapRow(
            f"Tokens that the marked one reads ({window}), and the factor of their relative bias.",
            maps,
            "spring",
            opacity=(0.7, 0.7),
        ),
        *attention_rows(call, token, heads, note),
    ]
