"""Images in the sizes that a network of another library takes."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from mmeffvit.models.backbones.base import pad_sides
from mmeffvit.models.libraries.base import Facts


def check_image(x: Tensor, name: str, in_channels: int, min_size: int) -> None:
    """Raise ValueError where `x` is no (B, C, H, W) image that the network takes."""
    if x.dim() != 4 or x.shape[1] != in_channels:
        raise ValueError(
            f"{name} takes images of shape (B, {in_channels}, H, W), got {tuple(x.shape)}"
        )
    if min(x.shape[-2:]) < min_size:
        raise ValueError(
            f"{name} takes images of at least {min_size} x {min_size} pixels, got {x.shape[-2]} x "
            f"{x.shape[-1]}; resize or pad them"
        )


def pad_image(x: Tensor, name: str, facts: Facts) -> Tensor:
    """Zeros on the right and at the bottom, up to sides that the network takes.

    Raises:
        ValueError: The network has one size, and the image is larger.
    """
    height, width = x.shape[-2:]
    if facts.size is None:
        return pad_sides(x, facts.divisor)
    bottom, right = facts.size[0] - height, facts.size[1] - width
    if min(bottom, right) < 0:
        raise ValueError(
            f"{name} is built for images of {facts.size[0]} x {facts.size[1]} pixels, and got "
            f"{height} x {width}; give img_size=(height, width), which some networks take, "
            "crop the images, or choose a network that takes any size"
        )
    return F.pad(x, (0, right, 0, bottom)) if bottom or right else x


def resize_image(x: Tensor, name: str, facts: Facts, stride: int) -> Tensor:
    """An image of which a patch is `stride` pixels of the one that came in, on both axes.

    Raises:
        ValueError: The network has another size.
    """
    patch = facts.strides[0]
    height, width = (math.ceil(side / stride) for side in x.shape[-2:])
    size = (height * patch, width * patch)
    if facts.size not in (None, size):
        raise ValueError(
            f"out_stride={stride} is not possible, as {name} takes images of {facts.size} alone"
        )
    x = F.pad(x, (0, width * stride - x.shape[-1], 0, height * stride - x.shape[-2]))
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
