"""Data sets in ADE20K's layout, for mmseg."""

from mmseg.datasets import BaseSegDataset

from mmeffvit.datasets.digits import ensure_digits
from mmeffvit.datasets.digits_ade import DIGITS_SEG_METAINFO
from mmeffvit.datasets.made import ensure_made
from mmeffvit.registry import DATASETS


@DATASETS.register_module()
class DigitsSegDataset(BaseSegDataset):
    """Handwritten digits in cluttered scenes, pixel by pixel; written when first used.

    Its eleven classes are the digits and ``background``, all that is no digit. Files and labels are
    as in ADE20K, see `mmeffvit.datasets.digits_ade`.

    Args:
        *args: As in mmseg's `BaseSegDataset`.
        make: Arguments of :func:`mmeffvit.datasets.ensure_digits` that say what the data is, such
            as ``dict(num_train=800, num_val=100, image_size=160, seed=0)``. Data sets that share a
            `data_root` must give the same. True means its defaults; False reads what is there and
            writes nothing.
        reduce_zero_label: Label 0 is not labelled and label 1 is the first class.
        **kwargs: As in mmseg's `BaseSegDataset`.
    """

    METAINFO = DIGITS_SEG_METAINFO

    def __init__(
        self, *args, make: dict | bool = True, reduce_zero_label: bool = True, **kwargs
    ) -> None:
        self._make = make
        super().__init__(*args, reduce_zero_label=reduce_zero_label, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Write the data if need be, and list the images."""
        ensure_made(ensure_digits, self.data_root, self._make, layout="ade20k")
        return super().load_data_list()
