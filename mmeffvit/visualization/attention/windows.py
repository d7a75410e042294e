"""Drawings of UniFormer's mixers: windows of softmax attention, and learnt neighbourhoods."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmeffvit.layers.mixers import LocalConvMixer, SoftmaxMixer
from mmeffvit.visualization.attention.capture import MixerCall
from mmeffvit.visualization.attention.cross_shaped import window_map
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    attention_rows,
    register_drawing,
)


def affinity_map(call: MixerCall, token: tuple[int, int]) -> Tensor:
    """Mean size, over channels, of the weights with which a token reads those around it.

    Args:
        call: A `LocalConvMixer` at work.
        token: Row and column of the query.

    Returns:
        (H, W), NaN where the token does not look.
    """
    weight = call.mixer.affinity.weight.detach().abs().mean((0, 1)).cpu()
    reach = weight.shape[0] // 2
    height, width = call.size
    # the map with a margin, which the kernel fits into wherever the token is
    around = torch.full((height + 2 * reach, width + 2 * reach), torch.nan)
    row, column = token
    around[row : row + len(weight), column : column + len(weight)] = weight
    return around[reach : reach + height, reach : reach + width]


@register_drawing(LocalConvMixer)
def draw_neighbourhood(
    call: MixerCall, token: tuple[int, int], heads: Sequence[int]
) -> list[MapRow]:
    """The learnt weights of the neighbourhood; they do not depend on the image."""
    weights = affinity_map(call, token)
    side = call.mixer.affinity.kernel_size[0]
    note = (
        f"Weights of the {side}×{side} tokens that the marked one reads, learnt and the same for "
        "every image: mean size over the channels."
    )
    seen = weights[~weights.isnan()]
    title = f"{float(seen.min()):.2f} to {float(seen.max()):.2f}"
    return [MapRow(note, [TokenMap(weights, title)])]


@register_drawing(SoftmaxMixer)
def draw_window(call: MixerCall, token: tuple[int, int], heads: Sequence[int]) -> list[MapRow]:
    """The window of the query, and its attention inside it."""
    side = call.mixer.core.window_size
    if side is None:
        return attention_rows(call, token, heads)
    numbers = window_map(call.size, (side, side), "end")
    own = numbers == numbers[token]
    title = f"{int(own.sum())} of {own.numel()} tokens"
    note = f"Windows of {side}×{side} tokens. The marked token reads those of its own."
    attention = "Attention of the marked token inside its window, as multiples of the mean weight."
    beyond = 1 - float(call.attention_of(token).sum((1, 2)).mean())
    if beyond > 1e-3:
        attention += f" {beyond:.0%} of it goes to places beyond the map."
    return [
        MapRow(
            note,
            [TokenMap(torch.where(own, 1.0, torch.nan), title, (0, 1))],
            "viridis",
            None,
            opacity=(0.6, 0.6),
        ),
        *attention_rows(call, token, heads, attention),
    ]
