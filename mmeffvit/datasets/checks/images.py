"""Images on disk: whether they can be read, and how large they are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from mmeffvit.datasets.checks.findings import Finding, warning

#: suffixes of images, in small letters
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
_ORIENTATION = 0x0112
#: formats with 16 bits, and the level of 255 below which images of these come out nearly black
_DEEP, _DARK = (".png", ".tif", ".tiff", ".pgm", ".ppm"), 32


class BrokenImageError(ValueError):
    """An image cannot be read. The message goes on after its name."""


def image_size(path: str | os.PathLike, whole: bool = True) -> tuple[tuple[int, int], bool]:
    """Height and width of an image as loaders see it, and whether its EXIF data turns it.

    Loaders follow the orientation that a camera wrote into EXIF data, so that height and width may
    be the other way round than those of the stored pixels.

    Args:
        path: The image.
        whole: Whether it is read to its end, to know that it can be.

    Raises:
        BrokenImageError: It is empty, cut off, or no image.
    """
    path = Path(path)
    if not path.stat().st_size:
        raise BrokenImageError("is empty")
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            width, height = image.size
            if whole:
                image.load()
    except UnidentifiedImageError:
        # rasters of many bands are none of PIL's kinds
        shape = _raster_shape(path)
        if shape is None:
            raise BrokenImageError("is not an image") from None
        return shape, False
    except (OSError, SyntaxError, ValueError) as problem:
        raise BrokenImageError(f"cannot be read to its end: {problem}") from problem
    return ((width, height) if turned else (height, width)), turned


def _raster_shape(path: Path) -> tuple[int, int] | None:
    """Height and width by the readers that loaders choose for other images, after reading all."""
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if array is None and path.suffix.lower() in (".tif", ".tiff"):
        try:
            import tifffile  # for more than four bands; without it no loader reads these either

            array = tifffile.imread(path)
        except Exception:  # whatever a damaged file makes it raise
            return None
    return None if array is None else array.shape[:2]


def check_depth(paths: Iterable[str]) -> list[Finding]:
    """Whether images of 16 bits use so few of them that 8 bits of these are nearly black.

    cv2 reads values / 256, as cameras and microscopes of 12 bits do not fill 16.

    Args:
        paths: Images that can be read.
    """
    dark, top = [], 0
    for path in paths:
        if not path.lower().endswith(_DEEP):
            continue
        pixels = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        if pixels is not None and pixels.dtype == np.uint16 and pixels.max() < 256 * _DARK:
            dark.append(path)
            top = max(top, int(pixels.max()))
    if not dark:
        return []
    what = (
        f"images of 16 bits go up to {top:,} of 65,535, and the pipeline makes {top >> 8} of 255 "
        "of that, nearly black"
    )
    todo = (
        "Write them in 8 bits, or read them as they are: LoadImageFromFile(color_type='unchanged', "
        "to_float32=True), with mean and std of data_preprocessor to match"
    )
    names = [os.path.basename(path) for path in dark]
    return [warning(os.path.dirname(dark[0]), what, names, todo)]


class Folders:
    """Which files there are, each folder being listed once: fast for a hundred thousand names."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        folder, name = os.path.split(path)
        return name in self.names(folder)

    def missing(self, paths: Iterable[str]) -> list[str]:
        """Those of the files that are not there."""
        return [path for path in paths if not self.has(path)]

    def names(self, folder: str) -> set[str]:
        """Names in a folder; none if there is no such folder."""
        if folder not in self._names:
            try:
                self._names[folder] = set(os.listdir(folder or "."))
            except OSError:
                self._names[folder] = set()
        return self._names[folder]

    def hint(self, path: str) -> str:
        """What is there in place of a missing file: another suffix or case, or nothing known."""
        folder, name = os.path.split(path)
        stem = os.path.splitext(name)[0].casefold()
        near = [n for n in sorted(self.names(folder)) if os.path.splitext(n)[0].casefold() == stem]
        return f"; there is {near[0]}" if near else ""
