"""The digits data for mmseg."""

from typing import ClassVar

from mmseg.datasets import BaseSegDataset

from mmeffvit.datasets.made import MadeOnFirstUse
from mmeffvit.demo_data.digits.layouts import DIGITS_SEG_METAINFO
from mmeffvit.registry import DATASETS


@DATASETS.register_module()
class DigitsSegDataset(MadeOnFirstUse, BaseSegDataset):
    """Handwritten digits in cluttered scenes, pixel by pixel; written when first used.

    Its eleven classes are the digits and ``background``, all that is no digit. Files and labels are
    as in ADE20K, see `mmeffvit.demo_data.digits.layouts`.

    Args:
        *args: As in mmseg's `BaseSegDataset`.
        make: Arguments of :func:`mmeffvit.demo_data.digits.ensure_digits`, see `MadeOnFirstUse`.
        reduce_zero_label: Label 0 is not labelled and label 1 is the first class.
        **kwargs: As in mmseg's `BaseSegDataset`.
    """

    METAINFO = DIGITS_SEG_METAINFO
    maker: ClassVar = {"type": "digits", "layout": "ade20k"}

    def __init__(
        self, *args, make: dict | bool = True, reduce_zero_label: bool = True, **kwargs
    ) -> None:
        super().__init__(*args, make=make, reduce_zero_label=reduce_zero_label, **kwargs)
