"""Data sets in COCO's layout, for mmdet."""

from mmdet.datasets import CocoDataset

from mmeffvit.datasets.digits import DIGITS_METAINFO, ensure_digits
from mmeffvit.datasets.made import ensure_made
from mmeffvit.registry import DATASETS


@DATASETS.register_module()
class DigitsDataset(CocoDataset):
    """Handwritten digits in cluttered scenes; written under `data_root` when first used.

    Args:
        *args: As in mmdet's `CocoDataset`.
        make: Arguments of :func:`mmeffvit.datasets.ensure_digits` that say what the data is, such
            as ``dict(num_train=800, num_val=100, image_size=160, seed=0)``. Data sets that share a
            `data_root` must give the same. True means its defaults; False reads what is there and
            writes nothing.
        **kwargs: As in mmdet's `CocoDataset`.
    """

    METAINFO = DIGITS_METAINFO

    def __init__(self, *args, make: dict | bool = True, **kwargs) -> None:
        self._make = make
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Write the data if need be, and read the annotations."""
        ensure_made(ensure_digits, self.data_root, self._make)
        return super().load_data_list()
