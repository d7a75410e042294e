"""Pixels to draw on: what was loaded for the network, of any number of channels, as RGB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from torch import Tensor

#: metadata of a data sample: its image as loaded, (H, W) or (H, W, C)
PIXELS = "pixels"
#: shares of the values that are drawn black and white, in per cent, where a range is not known
_DARKEST, _BRIGHTEST = 2, 98


def to_rgb(image: np.ndarray) -> np.ndarray:
    """An image as loaded by a toolbox, made fit to be seen: (H, W, 3), uint8, RGB.

    Args:
        image: (H, W) or (H, W, C) of any numbers. Of three channels or more, the first are blue,
            green and red, as OpenCV has them, and most satellites; of fewer, the first is drawn in
            grey. What is not within 0 to 255 is stretched, each channel from its darkest to its
            brightest 2 %.
    """
    image = np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    channels = image[..., 2::-1] if image.shape[-1] >= 3 else image[..., :1]
    if channels.dtype != np.uint8:
        channels = np.nan_to_num(channels.astype(np.float32), posinf=0, neginf=0)
        if channels.size and (channels.min() < 0 or channels.max() > 255 or channels.max() <= 1):
            low, high = np.percentile(channels, (_DARKEST, _BRIGHTEST), axis=(0, 1))
            channels = (channels - low) * (255 / np.maximum(high - low, 1e-6))
        channels = channels.round().clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(channels, (*channels.shape[:2], 3)))


def keep_pixels(sample: Any, image: np.ndarray) -> None:
    """Let a data sample carry its image, so that drawing it reads no file."""
    sample.set_field(image, PIXELS, field_type="metainfo")


def keep_inputs(sample: Any, data_batch: Any, index: int) -> None:
    """Let a data sample carry the image that its network got, if the batch has it.

    Args:
        sample: Of a toolbox; ``ori_shape`` and ``scale_factor`` say which part of the input is the
            image, and which size it had.
        data_batch: Of the loader: ``inputs`` are tensors (C, h, w), before normalisation.
        index: Of the sample in the batch.
    """
    inputs = data_batch.get("inputs") if isinstance(data_batch, dict) else None
    if not isinstance(inputs, Tensor | Sequence) or not index < len(inputs):
        return
    tensor = inputs[index]
    if not isinstance(tensor, Tensor) or tensor.ndim != 3:
        return
    image = tensor.detach().cpu().permute(1, 2, 0).numpy()
    shape = sample.get("ori_shape")
    if shape is not None:
        height, width = shape[:2]
        x_scale, y_scale = np.broadcast_to(sample.get("scale_factor", (0, 0)), 2)
        if x_scale and y_scale:  # what lies beyond is padding
            image = image[: max(1, round(height * y_scale)), : max(1, round(width * x_scale))]
        if image.shape[:2] != (height, width):
            image = cv2.resize(np.ascontiguousarray(image), (width, height))
    keep_pixels(sample, image)


def picture_of(sample: Any, path: Any = None) -> np.ndarray:
    """The image of a data sample, (H, W, 3), uint8, RGB, in its original size.

    Args:
        sample: Of a toolbox, with what :func:`keep_pixels` has given it, if anything.
        path: A file to read otherwise; by default the sample's ``img_path``.

    Raises:
        Exception: It carries no image, and the file cannot be read.
    """
    image = sample.get(PIXELS)
    if image is None:
        import mmcv  # here, as hooks for point clouds need no toolbox

        return mmcv.imread(str(path or sample.img_path), channel_order="rgb")
    image = to_rgb(image)
    shape = tuple(sample.get("ori_shape", image.shape[:2])[:2])
    return image if image.shape[:2] == shape else cv2.resize(image, shape[::-1])
