"""Drawing of attention with tables of offsets: Gaussian mixture masks, and URPE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmeffvit.layers.mixers import RelativeMixer
from mmeffvit.visualization.attention.capture import MixerCall
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    attention_rows,
    range_title,
    register_drawing,
)


def offset_maps(call: MixerCall, token: tuple[int, int], name: str) -> Tensor | None:
    """What a table says of every token, seen from one.

    Args:
        call: A `RelativeMixer` at work.
        token: Row and column of the query.
        name: ``'gain'``, ``'bias'`` or ``'factor'``.

    Returns:
        (h, H, W), NaN beyond the window of the query; None if there is no such table.
    """
    table = getattr(call.mixer.positions(call.context), name)
    if table is None:
        return None
    maps = torch.full((len(table), *call.size), torch.nan)
    window = call.mixer.window(call.size)
    # the first token of the window, the one after its last, and the offsets in between
    first = [at // side * side for at, side in zip(token, window)]
    last = [min(start + side, n) for start, side, n in zip(first, window, call.size)]
    rows, columns = (
        slice(a - at + side - 1, b - at + side - 1)
        for a, b, at, side in zip(first, last, token, window)
    )
    seen = table[:, rows, columns].detach().float().cpu()
    maps[:, first[0] : last[0], first[1] : last[1]] = seen
    return maps


_NOTES = {
    "gain": "What the logit of each token is multiplied by, as the marked one sees it.",
    "bias": "What is added to the logit of each token, as the marked one sees it.",
    "factor": "What the weight of each token is multiplied by after the softmax.",
}


def _shown(head: int, values: Tensor) -> TokenMap:
    seen = values[~values.isnan()]
    low, high = float(seen.min()), float(seen.max())
    # where all are equal, rounding is not to be seen
    middle = (low + high) / 2
    limits = (middle - 0.5, middle + 0.5) if high - low < 1e-3 * abs(middle) else None
    return TokenMap(values, range_title(head, seen), limits)


@register_drawing(RelativeMixer)
def draw_offsets(call: MixerCall, token: tuple[int, int], heads: Sequence[int]) -> list[MapRow]:
    """The tables around the query, and the attention that results."""
    rows = []
    for name, note in _NOTES.items():
        maps = offset_maps(call, token, name)
        if maps is None:
            continue
        shown = [_shown(head, maps[head]) for head in heads]
        rows.append(MapRow(note, shown, "viridis", opacity=(0.7, 0.7)))
    return [*rows, *attention_rows(call, token, heads)]
