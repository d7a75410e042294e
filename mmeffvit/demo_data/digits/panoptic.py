"""The digits data for panoptic segmentation in mmdet."""

from typing import ClassVar

from mmdet.datasets import CocoPanopticDataset

from mmeffvit.datasets.made import MadeOnFirstUse
from mmeffvit.demo_data.digits.panoptic_layout import DIGITS_PANOPTIC_METAINFO
from mmeffvit.registry import DATASETS


@DATASETS.register_module()
class DigitsPanopticDataset(MadeOnFirstUse, CocoPanopticDataset):
    """Handwritten digits on grounds of four kinds; written under `data_root` when first used.

    Files are as in COCO panoptic, see `mmeffvit.demo_data.digits.panoptic_layout`.

    Args:
        *args: As in mmdet's `CocoPanopticDataset`.
        make: Arguments of :func:`mmeffvit.demo_data.digits.ensure_digits`, see `MadeOnFirstUse`.
        **kwargs: As in mmdet's `CocoPanopticDataset`.
    """

    METAINFO = DIGITS_PANOPTIC_METAINFO
    maker: ClassVar = {"type": "digits", "layout": "panoptic"}

    def __init__(self, *args, make: dict | bool = True, **kwargs) -> None:
        super().__init__(*args, make=make, **kwargs)
