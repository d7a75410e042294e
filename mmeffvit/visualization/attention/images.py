"""Images as the networks take them."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

#: mean and standard deviation of ImageNet's RGB values, which all configs here normalise by
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
#: colour photographs inside of scikit-image's wheel
_PHOTOGRAPHS = ("chelsea.png", "astronaut.png", "coffee.png", "rocket.jpg")
#: shorter side that images get, and what the longer one is a multiple of
_SHORT_SIDE, _MULTIPLE = 224, 32


def example_photographs() -> list[Path]:
    """Files of photographs that scikit-image ships; nothing is downloaded.

    Raises:
        ValueError: scikit-image is not installed, or comes without them.
    """
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ValueError(
            "no image is given, and scikit-image, whose photographs would serve, is not installed; "
            "give an image, or pip install scikit-image"
        )
    files = [Path(spec.origin).parent / "data" / name for name in _PHOTOGRAPHS]
    files = [file for file in files if file.is_file()]
    if not files:
        raise ValueError(
            "no image is given, and the installed scikit-image comes without its photographs; "
            "give an image"
        )
    return files


def find_image(name: str | os.PathLike) -> Path:
    """A file, or the photograph of scikit-image that is called so, such as ``chelsea``."""
    path = Path(name)
    if not path.exists() and str(name) in {Path(file).stem for file in _PHOTOGRAPHS}:
        return next((file for file in example_photographs() if file.stem == str(name)), path)
    return path


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image upright: (H, W, 3) uint8, RGB.

    Raises:
        ValueError: There is no such file, or it is not an image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError:
        raise ValueError(f"there is no image at '{path}'") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"'{path}' cannot be read as an image: {error}") from error


def input_size(image: np.ndarray) -> tuple[int, int]:
    """Height and width near the image's proportions, 224 on the shorter side, multiples of 32."""
    height, width = image.shape[:2]
    scale = _SHORT_SIDE / min(height, width)
    return tuple(_MULTIPLE * max(1, round(side * scale / _MULTIPLE)) for side in (height, width))


def to_input(image: np.ndarray, size: tuple[int, int], channels: int = 3) -> Tensor:
    """Resize and normalise: (H, W, 3) uint8 to (1, channels, *size).

    A network of more channels gets red, green and blue in turn, and one of a single channel their
    mean.
    """
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
    values = (np.asarray(resized, np.float32) - _MEAN) / _STD
    if channels == 1:
        values = values.mean(-1, keepdims=True)
    values = values[..., np.arange(channels) % values.shape[-1]]
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None]
