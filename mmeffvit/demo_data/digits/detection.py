"""The digits data for mmdet."""

from typing import ClassVar

from mmdet.datasets import CocoDataset

from mmeffvit.datasets.made import MadeOnFirstUse
from mmeffvit.demo_data.digits.images import DIGITS_METAINFO
from mmeffvit.registry import DATASETS


@DATASETS.register_module()
class DigitsDataset(MadeOnFirstUse, CocoDataset):
    """Handwritten digits in cluttered scenes; written under `data_root` when first used.

    Args:
        *args: As in mmdet's `CocoDataset`.
        make: Arguments of :func:`mmeffvit.demo_data.digits.ensure_digits`, see `MadeOnFirstUse`.
        **kwargs: As in mmdet's `CocoDataset`.
    """

    METAINFO = DIGITS_METAINFO
    maker: ClassVar = {"type": "digits"}

    def __init__(self, *args, make: dict | bool = True, **kwargs) -> None:
        super().__init__(*args, make=make, **kwargs)
