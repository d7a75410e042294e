"""Masks of large images, which would fill the memory if all of them were there at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as mask_utils


class Crop(NamedTuple):
    """A mask where it is not empty.

    Attributes:
        x: First column in the image.
        y: First row in the image.
        inside: (h, w), bool.
    """

    x: int
    y: int
    inside: np.ndarray


class CroppedMasks:
    """Masks (N, H, W) of which only what is around the objects is kept.

    Args:
        crops: Of each.
        shape: Height H and width W of the image.
    """

    def __init__(self, crops: Sequence[Crop], shape: tuple[int, int]) -> None:
        self.crops = list(crops)
        self.shape = shape

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: Any) -> np.ndarray | CroppedMasks:
        """A mask (H, W), bool, or those that a slice, an index array or a truth array chooses."""
        if not isinstance(index, (int, np.integer)):
            chosen = [self.crops[i] for i in np.arange(len(self))[index]]
            return CroppedMasks(chosen, self.shape)
        mask = np.zeros(self.shape, bool)
        x, y, inside = self.crops[index]
        mask[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        return mask

    def code(self, index: int) -> dict[str, Any]:
        """The run lengths of a mask, as pycocotools has them, without making the mask."""
        x, y, inside = self.crops[index]
        height, width = self.shape
        # runs of each column, and of all columns one after the other
        steps = np.diff(np.pad(inside.astype(np.int8), ((1, 1), (0, 0))), axis=0).T
        columns, starts = np.nonzero(steps == 1)
        _, ends = np.nonzero(steps == -1)
        first = (columns + x) * height + y
        edges = np.stack([first + starts, first + ends], 1).ravel()
        # a run that goes on at the top of the next column is one
        apart = np.flatnonzero(edges[1:] == edges[:-1])
        edges = np.delete(edges, np.concatenate([apart, apart + 1]))
        counts = np.diff(np.concatenate([[0], edges, [height * width]])).tolist()
        if counts[-1] == 0:  # the last pixel is inside
            counts.pop()
        code = {"counts": counts, "size": [height, width]}
        return mask_utils.frPyObjects(code, height, width)


def encode(masks: Any, index: int) -> dict[str, Any]:
    """The run lengths of one of some masks, (N, H, W) or `CroppedMasks`."""
    if isinstance(masks, CroppedMasks):
        return masks.code(index)
    return mask_utils.encode(np.asfortranarray(masks[index], np.uint8))
