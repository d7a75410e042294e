"""Rows of maps over an image, on one sheet."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mmeffvit.visualization.attention.maps import MapRow, TokenMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_INK, _FAINT, _WARNING, _LINE = "#1c2026", "#5a636e", "#b3400a", "#dde2e8"
# everything in pixels at this resolution, and printed finer
_DPI, _FINE = 100, 1.3
_PANEL, _GAP, _MARGIN, _COLUMNS = 236, 12, 24, 4
_SECTION, _LINE_HEIGHT, _TITLE, _ROW_GAP = 40, 19, 22, 22
#: mean width of a letter, as a share of its size
_LETTER = 0.48
#: colours of a legend
_BAR = 54


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
    page = _make_page(room + 2 * _MARGIN, round(height))

    y = float(_MARGIN)
    _show(_panel(page, _MARGIN, y, panel), image, size, query)
    left = _MARGIN + panel[1] + 20
    # bold letters are wider
    title = _wrap(title, 16 * 1.36, room + _MARGIN - left)
    under = y - 3
    for line in title.splitlines() or [""]:
        _write(page, left, under, line, 16, fontweight="bold")
        under += 33
    for text, colour in [*((fact, _FAINT) for fact in facts), (warning, _WARNING)]:
        text = _wrap(text, 10.5, room + _MARGIN - left)
        _write(page, left, under, text, 10.5, colour)
        under += (text.count("\n") + 1) * _LINE_HEIGHT + 2
    y += panel[0] + _ROW_GAP
    for section, lines in arranged:
        page.hlines(y, _MARGIN, _MARGIN + room, _LINE, linewidth=1)
        _write(page, _MARGIN, y + 9, section.title, 12, fontweight="bold")
        y += _SECTION
        for line in lines:
            below = y + _words_above(line)
            for block, x in zip(line, (_MARGIN, _MARGIN + room - line[-1].width)):
                _write(page, x, y - 4, block.note, 9.5, _FAINT)
                _draw_legend(page, x + block.width, y + 4, block.row)
                for index, token_map in enumerate(block.row.maps):
                    left = x + index * (_PANEL + _GAP)
                    _write(page, left, below - 17, token_map.title, 9)
                    axes = _panel(page, left, below, panel)
                    _show(axes, image, size, query, block.row, token_map, block.strides[index])
            y = below + panel[0] + _ROW_GAP
    return page.get_figure()


def _make_page(width: int, height: int) -> Axes:
    """Axes over a whole figure, in pixels, y downwards."""
    from matplotlib.figure import Figure

    figure = Figure((width / _DPI, height / _DPI), dpi=_DPI * _FINE, facecolor="white")
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    page.set_axis_off()
    return page


def _write(page: Axes, x: float, y: float, text: str, points: float, colour=_INK, **kwargs) -> None:
    """Write lines, the upper left corner of the first at (x, y)."""
    kwargs = {"fontsize": points, "color": colour, "va": "top", "parse_math": False, **kwargs}
    for index, line in enumerate(text.splitlines()):
        page.text(x, y + index * _LINE_HEIGHT, line, **kwargs)


def _panel(page: Axes, x: float, y: float, size: tuple[float, float]) -> Axes:
    """Axes with the upper left corner at (x, y), of a height and a width."""
    from matplotlib.transforms import Bbox

    box = Bbox.from_extents(x, y + size[0], x + size[1], y)
    return page.figure.add_axes(box.transformed(page.transData - page.figure.transFigure).bounds)


def _draw_legend(page: Axes, right: float, y: float, row: MapRow) -> None:
    """Colours between the words for the first and the last, up to `right` and around `y`."""
    from matplotlib.offsetbox import AnnotationBbox, HPacker, OffsetImage, TextArea

    if row.legend is None:
        return
    colours = _colour_map(row)(np.linspace(0, 1, _BAR))
    # over grey, as on the pictures
    opacity = colours[:, 3:]
    bar = OffsetImage(np.tile(colours[:, :3] * opacity + 0.5 * (1 - opacity), (8, 1, 1)))
    low, high = (TextArea(word, textprops={"fontsize": 9, "color": _FAINT}) for word in row.legend)
    parts = HPacker(children=[low, bar, high], align="center", pad=0, sep=6)
    page.add_artist(AnnotationBbox(parts, (right, y), box_alignment=(1, 0.5), frameon=False, pad=0))


@dataclass(frozen=True)
class _Block:
    """A row of maps in the width that it gets, and its note in lines that fit beside the legend."""

    row: MapRow
    strides: Sequence[int]
    width: float

    @property
    def note(self) -> str:
        legend = 0.0
        if self.row.legend:
            legend = sum(map(len, self.row.legend)) * 9 * _LETTER * _DPI / 72 + 130
        return _wrap(self.row.note, 9.5, self.width - legend)


def _arrange(section: Section, columns: int, room: float) -> list[list[_Block]]:
    """The rows of a section as lines of blocks: short ones share a line."""
    lines: list[list[_Block]] = []
    short = columns // 2
    half = short * (_PANEL + _GAP) - _GAP
    for row in section.rows:
        strides = section.strides
        if isinstance(strides, int):
            strides = [strides] * len(row.maps)
        last = lines[-1] if lines else []
        if len(row.maps) <= short and len(last) == 1 and len(last[0].row.maps) <= short:
            # words of the left one end before those of the right one begin
            left = replace(last[0], width=half - _GAP)
            lines[-1] = [left, _Block(row, strides, half)]
        else:
            lines.append([_Block(row, strides, room)])
    return lines


def _words_above(line: Sequence[_Block]) -> float:
    """Height of notes and titles."""
    return max(block.note.count("\n") + 1 for block in line) * _LINE_HEIGHT + _TITLE


def _wrap(text: str, points: float, room: float) -> str:
    """Break a sentence where its words no longer fit."""
    return textwrap.fill(text, max(1, int(room / (points * _LETTER * _DPI / 72))))


def _colour_map(row: MapRow) -> Colormap:
    """Colours of a row with their opacity; not-a-number is transparent."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    colours = colormaps[row.colours](np.linspace(0, 1, 256))
    colours[:, 3] = np.linspace(*row.opacity, 256)
    return ListedColormap(colours)


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
        low, high = token_map.limits or (np.nanmin(values), np.nanmax(values))
        covered = (0, values.shape[1] * stride, values.shape[0] * stride, 0)
        colours = {"cmap": _colour_map(row), "vmin": low, "vmax": max(high, low + 1e-12)}
        axes.imshow(values, extent=covered, interpolation="nearest", **colours)
    axes.set(xlim=extent[:2], ylim=extent[2:], xticks=(), yticks=(), aspect="auto")
    axes.spines[:].set_visible(False)
    if query is not None:
        ring = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "clip_on": False}
        for colour, edge in (("black", 3.2), ("white", 1.5)):
            axes.plot(query[1], query[0], color=colour, markeredgewidth=edge, **ring)
