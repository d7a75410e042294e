"""Panoptic annotations in COCO's layout, read without `panopticapi`, which no index has."""

import numpy as np
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.datasets.transforms import LoadPanopticAnnotations as MMDetLoadPanopticAnnotations

from mmeffvit.registry import TRANSFORMS


def segment_numbers(colours: np.ndarray) -> np.ndarray:
    """Numbers of segments (H, W) from their colours (H, W, 3), RGB: red + 256 green + 65536 blue.

    Of COCO's panoptic format (https://cocodataset.org/#format-data).
    """
    return colours.astype(np.int64) @ np.array([1, 256, 65536])


@TRANSFORMS.register_module()
class LoadPanopticAnnotations(MMDetLoadPanopticAnnotations):
    """mmdet's `LoadPanopticAnnotations`, which refuses to be built without `panopticapi`.

    Args:
        with_bbox: Whether boxes are loaded.
        with_label: Whether labels are loaded.
        with_mask: Whether masks of things are loaded.
        with_seg: Whether the map of classes is loaded.
        **kwargs: Of mmdet's `LoadAnnotations`.
    """

    def __init__(
        self,
        with_bbox: bool = True,
        with_label: bool = True,
        with_mask: bool = True,
        with_seg: bool = True,
        **kwargs,
    ):
        # past the parent, which imports that package for this one function
        LoadAnnotations.__init__(
            self,
            with_bbox=with_bbox,
            with_label=with_label,
            with_mask=with_mask,
            with_seg=with_seg,
            **kwargs,
        )
        self.rgb2id = segment_numbers
