"""Rows of maps over an image, on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmeffvit.visualization.attention.maps import MapRow, TokenMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FAINT, _WARNING, _LINE = "#1c2026", "#5a636e", "#b3400a", "#dde2e8"
# everything in pixels at this resolution, and printed finer
_DPI, _FINE = 100, 1.3
_PANEL, _GAP, _MARGIN, _COLUMNS = 236, 12, 24, 4
_SECTION, _LINE_HEIGHT, _TITLE, _ROW_GAP = 40, 19, 22, 22
_BAR = 76


@dataclass(frozen=True)
class Section:
    """Rows about one thing, such as a mixer.

    Attributes:
        title: What it is.
        rows: Its rows.
        strides: Pixels of the input per token: one number, or one for each map of its rows.
    """

    title: str
    rows: Sequence[MapRow]
    strides: int | Sequence[int]


def draw_sheet(
    image: np.ndarray,
    size: tuple[int, int],
    sections: Sequence[Section],
    query: tuple[float, float] | None = None,
    title: str = "",
    facts: Sequence[str] = (),
    warning: str = "",
) -> Figure:
    """Draw maps over an image.

    Args:
        image: (H, W, 3) uint8.
        size: Height and width of the network's input, which the image was resized to.
        sections: What to draw.
        query: Row and column in pixels of the input, marked on each picture; None for no mark.
        title: In large letters on top.
        facts: Lines under it.
        warning: A line that catches the eye.

    Returns:
        A figure that belongs to no window.
    """
    columns = max([_COLUMNS, *(len(row.maps) for section in sections for row in section.rows)])
    room = columns * (_PANEL + _GAP) - _GAP
    panel = (_PANEL * size[0] / max(size), _PANEL * size[1] / max(size))
    arranged = [(section, _arrange(section, columns, room)) for section in sections]
    height = 2 * _MARGIN + panel[0]
    for _, lines in arranged:
        height += _SECTION + sum(_words_above(line) + panel[0] + _ROW_GAP for line in lines)
    page = _Page(room + 2 * _MARGIN, round(height))

    y = float(_MARGIN)
    _show(page.axes(_MARGIN, y, panel), image, size, query)
    left, under = _MARGIN + panel[1] + 20, y + 30
    page.text(left, y - 3, title, 16, fontweight="bold")
    for text, colour in [*((fact, _FAINT) for fact in facts), (warning, _WARNING)]:
        for part in _wrap(text, 10.5, room + _MARGIN - left):
            page.text(left, under, part, 10.5, colour)
            under += _LINE_HEIGHT + 2
    y += panel[0] + _ROW_GAP
    for section, lines in arranged:
        page.line(y)
        page.text(_MARGIN, y + 9, section.title, 12, fontweight="bold")
        y += _SECTION
        for line in lines:
            below = y + _words_above(line)
            for block, x in zip(line, (_MARGIN, _MARGIN + room - line[-1].width)):
                block.draw_words(page, x, y, below)
                for index, token_map in enumerate(block.row.maps):
                    axes = page.axes(x + index * (_PANEL + _GAP), below, panel)
                    _show(axes, image, size, query, block.row, token_map, block.strides[index])
            y = below + panel[0] + _ROW_GAP
    return page.figure


class _Page:
    """A figure that is filled from the top, measured in pixels."""

    def __init__(self, width: int, height: int):
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure((width / _DPI, height / _DPI), dpi=_DPI * _FINE, facecolor="white")

    def text(self, x: float, y: float, text: str, points: float, colour: str = _INK, **kwargs):
        """Write with the upper left corner at (x, y)."""
        kwargs = {"ha": "left", "va": "top", "parse_math": False, **kwargs}
        self.figure.text(
            x / self.width, 1 - y / self.height, text, fontsize=points, color=colour, **kwargs
        )

    def axes(self, x: float, y: float, size: tuple[float, float]) -> Axes:
        """Axes with the upper left corner at (x, y), of a height and a width."""
        box = (x / self.width, 1 - (y + size[0]) / self.height)
        return self.figure.add_axes((*box, size[1] / self.width, size[0] / self.height))

    def line(self, y: float) -> None:
        """A line from margin to margin."""
        from matplotlib.lines import Line2D

        ends = [_MARGIN / self.width, 1 - _MARGIN / self.width]
        self.figure.add_artist(Line2D(ends, [1 - y / self.height] * 2, color=_LINE, linewidth=1))


class _Block:
    """A row of maps with its words, in the width that it gets."""

    def __init__(self, row: MapRow, strides: Sequence[int], width: float):
        self.row, self.strides, self.width = row, strides, width
        legend = 0.0
        if row.legend:
            legend = sum(_text_width(word, 9) for word in row.legend) + _BAR + 50
        self.note = _wrap(row.note, 9.5, width - legend)

    def draw_words(self, page: _Page, x: float, y: float, below: float) -> None:
        """The note from (x, y), the legend at its right, and titles above the maps at `below`."""
        for index, part in enumerate(self.note):
            page.text(x, y - 4 + index * _LINE_HEIGHT, part, 9.5, _FAINT)
        for index, token_map in enumerate(self.row.maps):
            page.text(x + index * (_PANEL + _GAP), below - 17, token_map.title, 9)
        if self.row.legend:
            low, high = self.row.legend
            right = x + self.width
            bar = right - _text_width(high, 9) - 8 - _BAR
            page.text(right, y - 3, high, 9, _FAINT, ha="right")
            page.text(bar - 8, y - 3, low, 9, _FAINT, ha="right")
            axes = page.axes(bar, y - 2, (11, _BAR))
            extent = {"extent": (0, 1, 0, 1), "aspect": "auto"}
            # over grey, as on the pictures
            axes.imshow([[0.5]], "gray", vmin=0, vmax=1, **extent)
            axes.imshow(_colour(np.linspace(0, 1, 64)[None], self.row, (0, 1)), **extent)
            axes.set_axis_off()


def _arrange(section: Section, columns: int, room: float) -> list[list[_Block]]:
    """The rows of a section as lines of blocks: short ones share a line."""
    lines: list[list[_Block]] = []
    short = columns // 2
    for row in section.rows:
        strides = section.strides
        if isinstance(strides, int):
            strides = [strides] * len(row.maps)
        half = short * (_PANEL + _GAP) - _GAP
        last = lines[-1] if lines else []
        if len(row.maps) <= short and len(last) == 1 and len(last[0].row.maps) <= short:
            # words of the left one end before those of the right one begin
            left = _Block(last[0].row, last[0].strides, half - _GAP)
            lines[-1] = [left, _Block(row, strides, half)]
        else:
            lines.append([_Block(row, strides, room)])
    return lines


def _words_above(line: Sequence[_Block]) -> float:
    """Height of notes and titles."""
    return max(len(block.note) for block in line) * _LINE_HEIGHT + _TITLE


def _text_width(text: str, points: float) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    properties = FontProperties(size=points)
    width, _, _ = text_to_path.get_text_width_height_descent(text, properties, ismath=False)
    return width * _DPI / 72


def _wrap(text: str, points: float, room: float) -> list[str]:
    """Break a sentence where its words no longer fit."""
    lines: list[str] = []
    for word in text.split():
        if lines and _text_width(f"{lines[-1]} {word}", points) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _colour(
    values: np.ndarray, row: MapRow, limits: tuple[float, float] | None = None
) -> np.ndarray:
    """Numbers (H, W) to RGBA; not-a-number is transparent."""
    from matplotlib import colormaps

    low, high = limits or (np.nanmin(values), np.nanmax(values))
    part = ((values - low) / max(high - low, 1e-12)).clip(0, 1)
    rgba = colormaps[row.colours](np.nan_to_num(part))
    rgba[..., 3] = np.nan_to_num(row.opacity[0] + (row.opacity[1] - row.opacity[0]) * part)
    return rgba


def _show(
    axes: Axes,
    image: np.ndarray,
    size: tuple[int, int],
    query: tuple[float, float] | None,
    row: MapRow | None = None,
    token_map: TokenMap | None = None,
    stride: int = 1,
) -> None:
    """The image alone, or grey under a map whose tokens are `stride` pixels large."""
    extent = (0, size[1], size[0], 0)
    if token_map is None:
        axes.imshow(image, extent=extent, interpolation="antialiased")
    else:
        # dark parts lifted, so that colours over them are those of the legend
        grey = image.astype(np.float32).mean(-1) * 0.8 + 51
        axes.imshow(grey, "gray", extent=extent, vmin=0, vmax=255, interpolation="antialiased")
        values = token_map.values.detach().float().cpu().numpy()
        if values.ndim == 2:
            values = _colour(values, row, token_map.limits)
        covered = (0, values.shape[1] * stride, values.shape[0] * stride, 0)
        axes.imshow(values, extent=covered, interpolation="nearest")
    axes.set(xlim=extent[:2], ylim=extent[2:], xticks=(), yticks=(), aspect="auto")
    axes.spines[:].set_visible(False)
    if query is not None:
        ring = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "clip_on": False}
        for colour, edge in (("black", 3.2), ("white", 1.5)):
            axes.plot(query[1], query[0], color=colour, markeredgewidth=edge, **ring)
