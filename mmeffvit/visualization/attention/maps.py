"""What is to be drawn: maps with one number or colour per token, and who makes them of a mixer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmeffvit.layers.mixers import TokenMixer
from mmeffvit.visualization.attention.capture import MixerCall

#: heads drawn if none are named
_MOST_HEADS = 4


@dataclass(frozen=True)
class TokenMap:
    """One picture over the image.

    Attributes:
        values: (H, W), NaN where the image alone is to be seen; or (H, W, 3) colours in [0, 1].
        title: Above it.
        limits: Values of the first and the last colour; None for the least and the largest value.
    """

    values: Tensor
    title: str
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class MapRow:
    """Maps beside one another that mean the same.

    Attributes:
        note: What is seen, in a sentence.
        maps: The maps, one or more.
        colours: A colour map of matplotlib.
        legend: Meaning of its first and its last colour; None for no legend.
        opacity: Of the first and of the last colour; what is little leaves more of the image.
    """

    note: str
    maps: Sequence[TokenMap]
    colours: str = "inferno"
    legend: tuple[str, str] | None = ("least", "most")
    opacity: tuple[float, float] = (0.35, 0.75)


Drawing = Callable[[MixerCall, tuple[int, int], Sequence[int]], list[MapRow]]

_DRAWINGS: dict[type[TokenMixer], Drawing] = {}


def register_drawing(*mixer_types: type[TokenMixer]) -> Callable[[Drawing], Drawing]:
    """Make a function the drawing of a mixer, and of its sub-classes that have none of their own.

    The function gets the call, the row and column of the query, and the heads to draw, and returns
    rows of maps. :func:`attention_rows` draws what every mixer has.

    >>> @register_drawing(MyMixer)
    ... def draw_my_mixer(call, token, heads):
    ...     return [MapRow("What is seen.", [TokenMap(...)]), *attention_rows(call, token, heads)]
    """

    def register(drawing: Drawing) -> Drawing:
        _DRAWINGS.update(dict.fromkeys(mixer_types, drawing))
        return drawing

    return register


def chosen_heads(
    count: int, heads: Sequence[int] | None, whose: str, most: int = _MOST_HEADS
) -> Sequence[int]:
    """The heads to draw.

    Args:
        count: Heads that there are.
        heads: Those that are asked for, from 0; None for some, spread evenly.
        whose: Whose they are, for the error: "stage 2, whose SECMixer", "the merger, which".
        most: So many at most, if none are asked for.

    Raises:
        ValueError: There is no such head.
    """
    if heads is None:
        return torch.linspace(0, count - 1, min(count, most)).round().int().tolist()
    for head in heads:
        if not 0 <= head < count:
            raise ValueError(
                f"there is no head {head} in {whose} has the heads 0 to {count - 1}; choose other "
                "heads, or stages that have it"
            )
    return heads


def make_rows(
    call: MixerCall, token: tuple[int, int], heads: Sequence[int] | None = None
) -> list[MapRow]:
    """Maps of what a mixer did, by the drawing of its class or of the nearest base class.

    Args:
        call: The mixer at work.
        token: Row and column of the query.
        heads: Heads from 0; None for four of them at most, spread evenly.

    Raises:
        ValueError: The mixer has no such head.
    """
    whose = f"stage {call.stage}, whose {type(call.mixer).__name__}"
    heads = chosen_heads(call.mixer.num_heads, heads, whose)
    drawing = next(_DRAWINGS[cls] for cls in type(call.mixer).__mro__ if cls in _DRAWINGS)
    return drawing(call, token, heads)


@register_drawing(TokenMixer)
def attention_rows(
    call: MixerCall, token: tuple[int, int], heads: Sequence[int], note: str | None = None
) -> list[MapRow]:
    """Attention of the query per head; of a mixer without a ``core``, what its output depends on.

    Weights are given as multiples of the mean weight, one over the number of tokens.

    Args:
        call: The mixer at work.
        token: Row and column of the query.
        heads: Heads to draw.
        note: What is seen; has a default.
    """
    if call.tokens is None:
        influence = call.influence_on(token)
        note = note or "Size of the derivative of the output at the marked token by every token."
        return [MapRow(note, [TokenMap(influence, "all channels")])]
    weights = call.attention_of(token)[list(heads)] * call.num_tokens
    note = note or "Attention of the marked token, as multiples of the mean weight."
    if weights.min() < 0:
        maps = [
            TokenMap(w, range_title(head, w), (-float(w.abs().max()), float(w.abs().max())))
            for head, w in zip(heads, weights)
        ]
        return [MapRow(note, maps, "RdBu_r", ("negative", "positive"), (0.7, 0.7))]
    return [MapRow(note, [TokenMap(w, range_title(h, w)) for h, w in zip(heads, weights)])]


def range_title(head: int, values: Tensor) -> str:
    """The head, and the least and the largest of its values."""
    return f"head {head}: {short_range(values)}"


def short_range(values: Tensor) -> str:
    """The least and the largest value, with two significant digits or so."""
    return f"{_short(values.min())} to {_short(values.max())}"


def _short(value: Tensor) -> str:
    """Two significant digits or so, never an exponent."""
    number = float(value)
    if abs(number) >= 10:
        return f"{number:.0f}"
    return f"{number:.1f}" if abs(number) >= 2 else f"{number:.2f}"
