"""Masks of large images, which would fill the memory if all of them were there at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils


def encode(mask: np.ndarray) -> dict[str, Any]:
    """The run lengths of a mask (H, W), as pycocotools has them."""
    return mask_utils.encode(np.asfortranarray(mask, np.uint8))


class RunLengthMasks:
    """Masks (N, H, W) kept as run lengths; one is decoded when it is asked for.

    Args:
        codes: Of each, as pycocotools has them.
    """

    def __init__(self, codes: Sequence[dict[str, Any]]) -> None:
        self.codes = list(codes)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: Any) -> np.ndarray | RunLengthMasks:
        """A mask (H, W), bool, or those that a slice, an index array or a truth array chooses."""
        if isinstance(index, (int, np.integer)):
            return mask_utils.decode(self.codes[index]).astype(bool)
        return RunLengthMasks([self.codes[i] for i in np.arange(len(self))[index]])
