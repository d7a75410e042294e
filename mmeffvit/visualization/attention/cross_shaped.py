"""Drawing of cross-shaped window attention (CSWin, arXiv 2107.00652)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmeffvit.layers.mixers import CrossShapedMixer
from mmeffvit.ops.map_window_attention import Window, from_windows, to_windows
from mmeffvit.visualization.attention.capture import MixerCall
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    attention_rows,
    register_drawing,
)


def window_map(size: tuple[int, int], window: Window, padding: str = "even") -> Tensor:
    """Number of the window that each token of a map lies in, row by row: (H, W) int64.

    Args:
        size: Rows and columns of the map.
        window: Rows and columns of a window; None is the whole axis.
        padding: Where the map is continued; see `mmeffvit.ops.map_window_attention`.
    """
    cut = to_windows(torch.zeros(1, *size, dtype=torch.int64), window, padding)
    numbers = torch.arange(len(cut))[:, None, None].expand_as(cut)
    return from_windows(numbers, size, window, padding)[0]


@register_drawing(CrossShapedMixer)
def draw_stripes(call: MixerCall, token: tuple[int, int], heads: Sequence[int]) -> list[MapRow]:
    """The cross that the query reads, and its attention, half of the heads in each stripe."""
    windows = call.mixer.core.windows
    if len(windows) == 1:
        return attention_rows(call, token, heads)
    vertical, horizontal = (
        (numbers == numbers[token]).float()
        for numbers in (window_map(call.size, window) for window in windows)
    )
    half = call.mixer.num_heads // 2
    cross = vertical + 2 * horizontal
    share = (cross > 0).float().mean()
    maps = [
        TokenMap(torch.where(values > 0, values, torch.nan), title, (1, 3))
        for values, title in (
            (vertical, f"{_names(0, half)}: {_size(vertical)} tokens"),
            (2 * horizontal, f"{_names(half, 2 * half)}: {_size(horizontal)} tokens"),
            (cross, f"all heads: {share:.0%} of the map"),
        )
    ]
    note = (
        "Tokens that the marked one reads: those of its vertical stripe with half of the heads, "
        "those of its horizontal stripe with the other half."
    )
    return [
        MapRow(note, maps, "viridis", None, opacity=(0.6, 0.6)),
        *attention_rows(
            call,
            token,
            heads,
            "Attention of the marked token inside its stripes, as multiples of the mean weight.",
        ),
    ]


def _names(first: int, stop: int) -> str:
    return f"head {first}" if stop - first == 1 else f"heads {first} to {stop - 1}"


def _size(stripe: Tensor) -> str:
    """Rows and columns of the tokens that are one."""
    return "×".join(str(int(stripe.amax(axis).sum())) for axis in (1, 0))
