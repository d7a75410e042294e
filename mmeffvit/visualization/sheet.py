"""What all contact sheets share: pictures side by side in lines, titles, captions, a legend."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, FAINT, PAPER, LINE = (28, 32, 38), (110, 118, 128), (255, 255, 255), (222, 226, 232)
OUTLINE = (20, 20, 20)
#: of hatched regions: what they are is not known, or does not count
PALE = (225, 225, 225)
_MARGIN, _GAP, _GROUP_GAP = 28, 8, 36
_HEADER, _COLUMN_TITLE, _CAPTION, _FOOTER = 84, 30, 32, 16
_LEGEND_LINE, _SWATCH = 24, 16

Colour = tuple[int, int, int]
"""Red, green and blue, from 0 to 255."""
Legend = Sequence[tuple[Sequence[Colour], str]]
"""Entries of a legend: one colour or more, and what they stand for."""


@dataclasses.dataclass(frozen=True)
class Page:
    """How a sheet looks, whatever is on it.

    Attributes:
        title: In large letters on top.
        subtitle: Under the title.
        panel: Side of the square that each picture is fitted into, in pixels.
        columns: Examples beside one another.

    Raises:
        ValueError: The panel or the number of columns is too small.
    """

    title: str = ""
    subtitle: str = ""
    panel: int = 300
    columns: int = 2

    def __post_init__(self) -> None:
        if self.panel < 32 or self.columns < 1:
            raise ValueError(
                f"panel={self.panel} must be at least 32 and columns={self.columns} at least 1"
            )


def compose_sheet(
    sizes: Sequence[tuple[float, float]],
    draw_pictures: Callable[[int, tuple[int, int]], tuple[Sequence[Image.Image], str]],
    titles: Sequence[str],
    legend: Legend,
    page: Page,
) -> Image.Image:
    """Put the pictures of several examples on one sheet.

    Args:
        sizes: Height and width of the image of each example.
        draw_pictures: Called with the number of an example and the width and height that a picture
            may have; returns its pictures, one per title, and its caption.
        titles: Headings of the pictures.
        legend: At the foot of the sheet.
        page: How it looks.

    Returns:
        The sheet, RGB.

    Raises:
        ValueError: There is no example.
    """
    if not sizes:
        raise ValueError("a contact sheet needs at least one example")
    panel, columns = page.panel, min(page.columns, len(sizes))
    starts = range(0, len(sizes), columns)
    # no line higher than its pictures need
    heights = [
        max(round(panel * min(1, height / width)) for height, width in sizes[i : i + columns])
        for i in starts
    ]
    group = len(titles) * panel + (len(titles) - 1) * _GAP
    width = 2 * _MARGIN + columns * group + (columns - 1) * _GROUP_GAP
    top = _HEADER + _COLUMN_TITLE
    footer = _FOOTER + legend_height(legend, width - 2 * _MARGIN)
    size = (width, top + sum(heights) + len(heights) * _CAPTION + footer)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 20), page.title, INK, font(26, bold=True))
    draw.text((_MARGIN, 54), page.subtitle, FAINT, font(16))
    lefts = [_MARGIN + column * (group + _GROUP_GAP) for column in range(columns)]
    for left in lefts:
        for index, name in enumerate(titles):
            x = left + index * (panel + _GAP) + panel // 2
            draw.text((x, top - 6), name, INK, font(16, bold=True), anchor="ms")

    y = top
    for start, height in zip(starts, heights):
        for example, left in zip(range(start, len(sizes)), lefts):
            pictures, caption = draw_pictures(example, (panel, height))
            for index, picture in enumerate(pictures):
                x = left + index * (panel + _GAP)
                dx, dy = (panel - picture.width) // 2, (height - picture.height) // 2
                sheet.paste(picture, (x + dx, y + dy))
            draw.text((left, y + height + 6), caption, FAINT, font(14))
        y += height + _CAPTION
    draw.line((_MARGIN, y, width - _MARGIN, y), LINE, 1)
    draw_legend(draw, legend, _MARGIN, y + 11, width - 2 * _MARGIN)
    return sheet


def fit(image: np.ndarray, room: tuple[int, int]) -> Image.Image:
    """An image (H, W, 3) as large as a room, its width and height, allows."""
    height, width = image.shape[:2]
    scale = min(room[0] / width, room[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)


def hatching(shape: tuple[int, int], fine: int = 1) -> np.ndarray:
    """Opacity (H, W) of slanting stripes; in pictures to be shrunk, `fine` times as wide."""
    y, x = np.indices(shape)
    return np.where((x + y) % (8 * fine) < 3 * fine, np.float32(0.75), np.float32(0.15))


def legend_height(legend: Legend, width: int) -> int:
    """Pixels that a legend of this width needs."""
    return _LEGEND_LINE * (1 + max((line for line, _, _ in _place(legend, width)), default=-1))


def draw_legend(draw: ImageDraw.ImageDraw, legend: Legend, x: int, y: int, width: int) -> None:
    """Draw a legend, in as many lines as it needs."""
    for line, offset, (colours, text) in _place(legend, width):
        left, top = x + offset, y + line * _LEGEND_LINE
        for colour in colours:
            box = (left, top, left + _SWATCH, top + _SWATCH)
            draw.rounded_rectangle(box, 4, colour, OUTLINE)
            left += _SWATCH + 4
        draw.text((left + 2, top + _SWATCH / 2), text, FAINT, font(14), anchor="lm")


def _place(legend: Legend, width: int) -> list[tuple[int, int, tuple]]:
    """The line of each entry and its distance from the left."""
    placed, line, x = [], 0, 0
    for colours, text in legend:
        needed = len(colours) * (_SWATCH + 4) + 2 + round(font(14).getlength(text))
        if x and x + needed > width:
            line, x = line + 1, 0
        placed.append((line, x, (colours, text)))
        x += needed + 28
    return placed


@functools.lru_cache
def font(size: int, bold: bool = False) -> ImageFont.ImageFont:
    """matplotlib's own sans serif, which is there on every machine that draws the curves."""
    try:
        from matplotlib import font_manager

        properties = font_manager.FontProperties(
            family="DejaVu Sans", weight="bold" if bold else "normal"
        )
        return ImageFont.truetype(font_manager.findfont(properties), size)
    except ImportError:
        return ImageFont.load_default(size)
