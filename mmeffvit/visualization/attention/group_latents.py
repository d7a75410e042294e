"""Drawing of groups that speak to one another through latents (FIT, arXiv 2305.12689)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mmeffvit.layers.mixers import GroupLatentMixer
from mmeffvit.visualization.attention.capture import MixerCall
from mmeffvit.visualization.attention.cross_shaped import window_map
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    register_drawing,
)


@register_drawing(GroupLatentMixer)
def draw_group(call: MixerCall, token: tuple[int, int], heads: Sequence[int]) -> list[MapRow]:
    """The group of the query, and what its output depends on."""
    side, count = call.mixer.group_size, call.mixer.latents.shape[0]
    numbers = window_map(call.size, (side, side), "end")
    own = numbers == numbers[token]
    influence = call.influence_on(token).cpu()
    inside = TokenMap(torch.where(own, influence, torch.nan), f"its group: {int(own.sum())} tokens")
    maps = [inside]
    if not own.all():
        title = f"all others, through {count} latents"
        maps.append(TokenMap(torch.where(own, torch.nan, influence), title))
    note = (
        "Size of the derivative of the output at the marked token by the tokens of its group, "
        "which it reads itself, and by all others, of which it knows what latents say."
    )
    return [MapRow(note, maps, opacity=(0.5, 0.75))]
