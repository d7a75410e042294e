"""Drawing of sparse scan self-attention (SSViT, arXiv 2405.13335)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmeffvit.layers.mixers import S3AMixer
from mmeffvit.ops import ScanStep, neighbour_positions, sparse_scan_steps
from mmeffvit.visualization.attention.capture import MixerCall
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    attention_rows,
    register_drawing,
)


def scan_steps(call: MixerCall) -> list[ScanStep]:
    """The neighbourhood attentions that the mixer chains, in their order."""
    core = call.mixer.core
    return sparse_scan_steps(
        *call.size,
        core.window_size,
        core.reverse,
        max_kernel=core.max_kernel,
        per_axis=core.per_axis,
    )


def count_paths(size: tuple[int, int], steps: Sequence[ScanStep], token: tuple[int, int]) -> Tensor:
    """Number of ways from a token, step by step backwards, to every token that it depends on.

    Args:
        size: Rows and columns of the map.
        steps: Steps in the order in which they run; one of them for what that step reads.
        token: Row and column of the query of the last step.

    Returns:
        (H, W) int64; 0 where the token reads nothing.
    """
    axes = []
    for axis in range(2):
        counts = torch.zeros(size[axis], dtype=torch.int64)
        counts[token[axis]] = 1
        # the last step reads what those before it have gathered
        for step in reversed(steps):
            read = neighbour_positions(size[axis], step.kernel[axis], step.dilation[axis])
            counts = torch.zeros_like(counts).index_add_(
                0, read.flatten(), counts.repeat_interleave(step.kernel[axis])
            )
        axes.append(counts)
    return axes[0][:, None] * axes[1]


@register_drawing(S3AMixer)
def draw_scan(call: MixerCall, token: tuple[int, int], heads: Sequence[int]) -> list[MapRow]:
    """What each step reads, what both together reach, and the attention that results."""
    steps = scan_steps(call)
    if not steps:
        return attention_rows(call, token, heads)
    note = "Tokens that the marked one reads, the same for all heads."
    paths = [count_paths(call.size, [step], token) for step in steps]
    titles = [_title(number, step) for number, step in enumerate(steps, 1)]
    if len(steps) > 1:
        note += (
            " The first step gathers values around every token; the last reads the result at its "
            "own tokens. Both together reach the surroundings of all that the last one reads."
        )
        both = count_paths(call.size, steps, token)
        paths.append(both)
        titles.append(f"both: {(both > 0).float().mean():.0%} of the map, up to {both.max()} ways")
    most = int(paths[-1].max())
    maps = [
        TokenMap(torch.where(p > 0, p.float(), torch.nan), title, (1, max(most, 2)))
        for p, title in zip(paths, titles)
    ]
    legend = ("in one way", f"in {most} ways") if most > 1 else None
    row = MapRow(note, maps, "spring", legend, opacity=(0.5, 0.7))
    note = "Attention of the marked token after all steps, as multiples of the mean weight."
    return [row, *attention_rows(call, token, heads, note)]


def _title(number: int, step: ScanStep) -> str:
    kernel, dilation = ("×".join(map(str, pair)) for pair in step)
    if step.dilation == (1, 1):
        return f"step {number}: {kernel} tokens"
    rows, columns = step.dilation
    return f"step {number}: {kernel} tokens, {rows if rows == columns else dilation} apart"
