"""The digits data for mmpretrain."""

from typing import ClassVar

from mmpretrain.datasets import ImageNet

from mmeffvit.datasets.made import MadeOnFirstUse
from mmeffvit.demo_data.digits.images import DIGITS_METAINFO
from mmeffvit.registry import DATASETS


@DATASETS.register_module()
class DigitsClsDataset(MadeOnFirstUse, ImageNet):
    """A handwritten digit in clutter, one per image; written under `data_root` when first used.

    Files are as in ImageNet-1K, see `mmeffvit.demo_data.digits.layouts`.

    Args:
        data_root: Folder of the data set.
        split: ``'train'`` or ``'val'``.
        make: Arguments of :func:`mmeffvit.demo_data.digits.ensure_digits`, see `MadeOnFirstUse`.
        **kwargs: As in mmpretrain's `ImageNet`.
    """

    METAINFO = DIGITS_METAINFO
    maker: ClassVar = {"type": "digits", "layout": "imagenet"}

    def __init__(self, data_root: str, split: str, make: dict | bool = True, **kwargs) -> None:
        # mmpretrain looks for the list of files before it is told whether to load it
        kwargs.setdefault("ann_file", f"meta/{split}.txt")
        super().__init__(data_root=data_root, split=split, make=make, **kwargs)
