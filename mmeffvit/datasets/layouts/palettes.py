"""Label maps in colours: files that say which colour is which class, and colours to numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmeffvit.datasets.layouts.base import LayoutError

IGNORED = 255
#: names of what is no class
_NO_CLASS = ("ignore", "ignored", "void", "unlabeled", "unlabelled")
#: three numbers side by side, as ``128,64,128`` or ``[128 64 128]``
_COLOUR = re.compile(r"(?<![\w.])(\d{1,3})[,;\s]+(\d{1,3})[,;\s]+(\d{1,3})(?![\w.])")


@dataclass(frozen=True)
class Palette:
    """Which colour is which class.

    Attributes:
        names: Of the classes; pixels of 'void', 'ignore' and 'unlabelled' do not count, and these
            are none.
        colours: RGB, with the number that it stands for: of a class, or 255 for none.
    """

    names: tuple[str, ...]
    colours: tuple[tuple[tuple[int, int, int], int], ...]

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, Sequence[int]]]) -> Palette:
        """From names and colours; a name may come again with another colour.

        Raises:
            LayoutError: A colour is none, or stands for two classes.
        """
        names = tuple(dict.fromkeys(n for n, _ in pairs if n.lower() not in _NO_CLASS))
        numbers: dict[tuple[int, int, int], int] = {}
        for name, colour in pairs:
            rgb = tuple(map(int, colour))
            if len(rgb) != 3 or not all(0 <= v <= 255 for v in rgb):
                raise LayoutError(
                    f"The colour of {name!r} is {list(colour)}; it must be three numbers, red, "
                    "green and blue, from 0 to 255."
                )
            number = IGNORED if name.lower() in _NO_CLASS else names.index(name)
            if numbers.setdefault(rgb, number) != number:
                raise LayoutError(f"The colour {rgb} stands for {name!r} and for another class.")
        return cls(names, tuple(numbers.items()))

    def numbers(self, picture: np.ndarray, path: Path) -> np.ndarray:
        """The number of the class of every pixel.

        Args:
            picture: (H, W, 3), uint8, RGB.
            path: For the error.

        Returns:
            (H, W) int64, 255 where there is no class.

        Raises:
            LayoutError: A pixel has a colour of no class; the message names colours.
        """
        known = np.array([_code(np.array(colour)) for colour, _ in self.colours])
        order = np.argsort(known)
        codes = _code(picture.astype(np.int64))
        places = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
        strange = known[order][places] != codes
        if strange.any():
            raise LayoutError(
                f"{path} has colours of no class in {int(strange.sum())} of {strange.size} pixels: "
                f"{_lines(picture[strange])}. Add them to the list, as a class or as 'void' (no "
                "class). Many that are nearly alike come from JPEG or from smooth edges: save the "
                "maps anew from where they were drawn."
            )
        numbers = np.array([number for _, number in self.colours])
        return numbers[order][places]


def read_palette(text: str) -> Palette | None:
    """The palette that a file lists, a class per line; None if it lists no colours.

    Lines are a name and three numbers in any order and with any signs between, as
    ``road 128 64 128``, ``128 64 128 road`` (CamVid), ``road,128,64,128`` (with a first line
    ``name,r,g,b``), or ``road:128,64,128::`` (CVAT). What begins with ``#`` is left out.

    Raises:
        LayoutError: Some lines have a colour, and others have none.
    """
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    found = [(_COLOUR.search(line), line) for line in lines]
    if found and found[0][0] is None and not any(c.isdigit() for c in lines[0]):
        found = found[1:]  # a heading
    if not any(match for match, _ in found):
        return None
    plain = [line for match, line in found if match is None]
    if plain or len(found) + 1 < len(lines):
        raise LayoutError(
            f"A list of classes has colours in some lines, and none in others: {plain[:3]}. Write "
            "a name and three numbers in every line, as in 'road 128 64 128'."
        )
    pairs = []
    for match, line in found:
        name = (line[: match.start()] + " " + line[match.end() :]).strip(" \t,;:[]()\"'")
        pairs.append((name or f"class {len(pairs)}", tuple(map(int, match.groups()))))
    return Palette.of(pairs)


def what_to_write(picture: np.ndarray) -> str:
    """Advice about a label map in colours, whose classes nobody has named."""
    return (
        "its colours have to be named: write classes.txt with a name and three numbers in every "
        f"line, for {_lines(picture.reshape(-1, 3))} ('void' is no class), or say "
        '--dataset-options classes="[road,sky]" palette="[[128,64,128],[70,130,180]]"'
    )


def _lines(pixels: np.ndarray) -> str:
    """The most frequent colours of (N, 3), as lines of a file would have them."""
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    often = colours[np.argsort(-counts, kind="stable")[:8]]
    listed = ", ".join(" ".join(map(str, colour)) for colour in often.tolist())
    more = f" and {len(colours) - len(often)} more" if len(colours) > len(often) else ""
    return f"{listed}{more}"


def _code(colours: np.ndarray) -> np.ndarray:
    """One number for each colour (..., 3)."""
    return colours[..., 0] * 65536 + colours[..., 1] * 256 + colours[..., 2]
