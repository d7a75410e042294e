"""Drawing of spectral gating (SVT, arXiv 2311.01310): the bands that it mixes."""

from __future__ import annotations

from collections.abc import Sequence

from mmeffvit.layers.mixers import ScatterMixer
from mmeffvit.layers.mixers.scatter import even_sides
from mmeffvit.ops import dual_tree_wavelet
from mmeffvit.visualization.attention.capture import MixerCall
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    attention_rows,
    register_drawing,
)

#: directions of edges that a band answers to, in degrees from the horizontal
_ANGLES = (15, 45, 75, 105, 135, 165)


@register_drawing(ScatterMixer)
def draw_bands(call: MixerCall, token: tuple[int, int], heads: Sequence[int]) -> list[MapRow]:
    """How strong each band is, before it is mixed, and what the query depends on."""
    _, bands = dual_tree_wavelet(even_sides(call.x))
    strength = bands[0].square().sum(-1).mean(0).sqrt()  # (6, H/2, W/2)
    height, width = call.size
    maps = []
    for band, angle in zip(strength, _ANGLES):
        whole = band.repeat_interleave(2, 0).repeat_interleave(2, 1)
        maps.append(TokenMap(whole[:height, :width], f"band of {angle} degrees"))
    note = (
        "Size of the complex bands, the root mean square over channels: each answers to edges of "
        "one direction."
    )
    influence = attention_rows(call, token, heads)
    return [MapRow(note, maps[:3]), MapRow("The other three directions.", maps[3:]), *influence]
