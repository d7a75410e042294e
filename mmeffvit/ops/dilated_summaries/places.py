"""Where the points of spans lie on a map that continues as its reflection."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmeffvit.ops.tables import cached_table


def axis_places(length: int, count: int, device: torch.device) -> Tensor:
    """The first `count` places of an axis that is reflected at its end, and again: (count,) int64.

    Args:
        length: Places of the axis.
        count: How many are asked for.
        device: Of the result.
    """
    # a tensor, as ONNX has no remainder by a symbol; one place alone is its own reflection
    period = (2 * torch.arange(length, device=device)[-1:]).clamp(min=1)
    place = torch.arange(count, device=device) % period
    return torch.minimum(place, period - place)


def point_places(
    size: tuple[int, int], window_size: int, dilation: int, device: torch.device
) -> Tensor:
    """Token that each point of each span reads: (k * k, spans) int64, both row by row."""
    span = dilation * (window_size - 1) + 1
    axes = []
    for length in size:
        count = (length + span - 1) // span
        places = axis_places(length, count * span, device).view(count, span)
        axes.append(places[:, ::dilation].T)  # (k, spans of the axis)
    rows, columns = axes
    tokens = rows[:, None, :, None] * size[1] + columns[None, :, None, :]
    return tokens.flatten(2).flatten(0, 1)


class Runs(NamedTuple):
    """Which run, of as many numbers as there are spans, the numbers of a span lie in.

    The D numbers of every span stand one after another, span by span; every run is one summary.

    Attributes:
        places: (k * k, W) tokens that points of whole spans read: all D numbers are of one run.
        run: (W, D), 1 where the whole span lies in the run.
        cut_places: (k * k, M) tokens that points of the other spans read.
        cut_run: (M, D, D), 1 where a number of the span lies in the run.
    """

    places: Tensor
    run: Tensor
    cut_places: Tensor
    cut_run: Tensor


@cached_table(64)
def span_runs(
    size: tuple[int, int], window_size: int, dilation: int, dim: int, device: torch.device
) -> Runs:
    """The runs of all spans of a map; `dim` is D."""
    places = point_places(size, window_size, dilation, device)
    spans = places.shape[1]
    runs = [[(span * dim + number) // spans for number in range(dim)] for span in range(spans)]
    # sorted in Python, so that sizes are known on the meta device as well
    of_kind: dict[bool, list[int]] = {True: [], False: []}
    for span, run in enumerate(runs):
        of_kind[run[0] == run[-1]].append(span)
    one_hot = torch.eye(dim, device=device)
    parts = []
    for spans_of_kind in of_kind.values():
        chosen = torch.tensor(spans_of_kind, dtype=torch.int64, device=device)
        run = torch.tensor([runs[span] for span in spans_of_kind], dtype=torch.int64)
        parts += [places.index_select(1, chosen), one_hot[run.view(-1, dim).to(device)]]
    whole, run, cut, cut_run = parts
    return Runs(whole, run[:, 0], cut, cut_run)
