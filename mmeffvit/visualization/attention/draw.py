"""A backbone and an image to a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from mmeffvit.models.network import input_channels
from mmeffvit.visualization.attention.capture import MixerCall, record_mixers
from mmeffvit.visualization.attention.deformable import pyramid_sections, reads_a_pyramid
from mmeffvit.visualization.attention.features import feature_row
from mmeffvit.visualization.attention.images import input_size, to_input
from mmeffvit.visualization.attention.maps import make_rows
from mmeffvit.visualization.attention.regions import scale_sections
from mmeffvit.visualization.attention.sheet import Section, draw_sheet
from mmeffvit.visualization.attention.token_merger import Merging, follow_mergers, merges_tokens

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RANDOM = "random weights: shows how the network works, not what training would teach it"


def draw_attention(
    backbone: nn.Module,
    image: np.ndarray,
    *,
    size: tuple[int, int] | None = None,
    query: tuple[int, int] | None = None,
    stages: Sequence[int] | None = None,
    blocks: Sequence[int] = (-1,),
    heads: Sequence[int] | None = None,
    neck: nn.Module | None = None,
    title: str = "",
    weights: str | None = None,
) -> Figure:
    """Draw what the mixers of a backbone, or the attention of a neck behind it, do on an image.

    Args:
        backbone: Any `PyramidViT`, a network with ``stages`` that hold token mixers, or one with
            deformable attention over several levels, whose reading is drawn: `stages` then counts
            these attentions, of which the first and the last are the default. Of one that merges
            tokens the passes of its merger are drawn first.
        image: (H, W, 3) uint8, RGB.
        size: Height and width that the image is resized to for the network; by default its own
            proportions with 224 on the shorter side, both multiples of 32.
        query: Row and column, in pixels of the image, of the token whose attention is drawn; the
            centre by default.
        stages: Stages to draw, from 0; all by default.
        blocks: Blocks of each of them, from 0 or, if negative, from the last, which is the default.
        heads: Heads to draw, from 0; by default four at most, spread evenly.
        neck: What reads the backbone's maps, with attention across scales, which is drawn in place
            of the backbone's.
        title: In large letters on top.
        weights: Where the weights come from; None if they are random, which the sheet then says.

    Raises:
        ValueError: There is no such stage, block or head, the neck has no attention across scales,
            or the query is not in the image.
    """
    size = size or input_size(image)
    at = _query_in_input(image, size, query)
    x = _on_device(backbone, image, size)
    if neck is not None:
        sections = scale_sections(backbone, neck, x, at, blocks, heads)
    elif reads_a_pyramid(backbone):
        sections = pyramid_sections(backbone, x, at, stages, heads)
    else:
        merging = follow_mergers(backbone, x, at, heads) if merges_tokens(backbone) else None
        calls = record_mixers(backbone, x, stages, blocks)
        sections = [] if merging is None else [*merging.sections]
        sections += [_section(call, at, heads, merging) for call in calls]
    facts, warning = _describe_input(size, weights)
    facts.append("ring: the marked token, whose attention is drawn")
    return draw_sheet(image, size, sections, at, title, facts, warning)


def _section(
    call: MixerCall,
    at: tuple[float, float],
    heads: Sequence[int] | None,
    merging: Merging | None,
) -> Section:
    """What a mixer did, over the patches that its tokens stand for where they were merged."""
    if merging is None:
        return Section(_describe(call), make_rows(call, call.token_at(*at), heads), call.stride)
    rows = make_rows(call, merging.token_at(*at), heads)
    return Section(_describe(call), merging.over_patches(rows), merging.stride)


def draw_features(
    backbone: nn.Module,
    image: np.ndarray,
    *,
    size: tuple[int, int] | None = None,
    stages: Sequence[int] | None = None,
    title: str = "",
    weights: str | None = None,
) -> Figure:
    """Draw the maps that a backbone returns as colours; see `principal_colours`.

    Arguments are those of :func:`draw_attention`; `stages` are some of the backbone's outputs.
    """
    size = size or input_size(image)
    row, strides = feature_row(backbone, _on_device(backbone, image, size), stages)
    section = Section("Feature maps: channels × rows × columns", [row], strides)
    facts, warning = _describe_input(size, weights)
    return draw_sheet(image, size, [section], None, title, facts, warning)


def _on_device(backbone: nn.Module, image: np.ndarray, size: tuple[int, int]) -> Tensor:
    x = to_input(image, size, input_channels(backbone))
    return x.to(next(backbone.parameters()).device)


def _query_in_input(
    image: np.ndarray, size: tuple[int, int], query: tuple[int, int] | None
) -> tuple[float, float]:
    height, width = image.shape[:2]
    y, x = query if query is not None else (height // 2, width // 2)
    if not (0 <= y < height and 0 <= x < width):
        raise ValueError(
            f"the query ({y}, {x}) is not in the image, which has {height} rows (0 to "
            f"{height - 1}) and {width} columns (0 to {width - 1})"
        )
    return (y + 0.5) / height * size[0], (x + 0.5) / width * size[1]


def _describe(call: MixerCall) -> str:
    height, width = call.size
    last = " (the last)" if call.block == call.num_blocks - 1 else ""
    heads = call.mixer.num_heads
    return (
        f"Stage {call.stage}, block {call.block}{last}: {type(call.mixer).__name__}, "
        f"{height} × {width} tokens, {heads} head{'s' * (heads > 1)}"
    )


def _describe_input(size: tuple[int, int], weights: str | None) -> tuple[list[str], str]:
    facts = [f"input of {size[0]} × {size[1]} pixels"]
    return (facts, _RANDOM) if weights is None else ([*facts, f"weights: {weights}"], "")
