"""Resizing of maps, also as a compiler makes one kernel of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.tracing import is_exporting

# of cubic convolution (Keys, 1981), as PyTorch has it
_CUBIC = -0.75
#: places of the map that a place of the result is made of, counted from the one above it
_TAPS = {"bicubic": (-1, 3), "bilinear": (0, 2)}


def resize_map(x: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """A map at another size, without corners aligned or antialiasing.

    PyTorch's operator; in a graph that is compiled, :func:`resize_in_lines`.

    Args:
        x: (B, C, H, W), floating point.
        size: Rows and columns of the result.
        mode: ``'bicubic'`` or ``'bilinear'``.

    Returns:
        (B, C, *size).
    """
    if torch.compiler.is_compiling() and not is_exporting():
        return resize_in_lines(x, size, mode)
    return F.interpolate(x, tuple(size), mode=mode, align_corners=False)


def resize_in_lines(x: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """The same, rows first and then columns.

    A compiler takes PyTorch's bicubic operator apart into sixteen maps that are gathered, and whose
    gradients are scattered, one by one; here it is one for each axis. Arguments are the same, too.
    """
    places, weights = _taps(x.shape[2], size[0], mode, x)
    x = (x[:, :, places] * weights[..., None]).sum(3)
    places, weights = _taps(x.shape[3], size[1], mode, x)
    return (x[..., places] * weights).sum(-1)


def _taps(length: int, side: int, mode: str, like: Tensor) -> tuple[Tensor, Tensor]:
    """Places of an axis that each place of the resized one is made of, and weights: (side, n)."""
    centres = torch.arange(side, device=like.device, dtype=like.dtype) + 0.5
    centres = centres * length / side - 0.5
    before = centres.floor()
    places = torch.arange(*_TAPS[mode], device=like.device) + before.long()[:, None]
    distance = (centres[:, None] - places).abs()
    weights = _cubic(distance) if mode == "bicubic" else 1 - distance
    return places.clamp(0, length - 1), weights


def _cubic(distance: Tensor) -> Tensor:
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
    far = _CUBIC * (((distance - 5) * distance + 8) * distance - 4)
    return torch.where(distance < 1, near, far)
