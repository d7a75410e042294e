"""Data sets in ImageNet's layout, for mmpretrain."""

from mmpretrain.datasets import ImageNet

from mmeffvit.datasets.digits import DIGITS_METAINFO, ensure_digits
from mmeffvit.datasets.made import ensure_made
from mmeffvit.registry import DATASETS


@DATASETS.register_module()
class DigitsClsDataset(ImageNet):
    """A handwritten digit in clutter, one per image; written under `data_root` when first used.

    Files are as in ImageNet-1K, see `mmeffvit.datasets.digits_imagenet`.

    Args:
        data_root: Folder of the data set.
        split: ``'train'`` or ``'val'``.
        make: Arguments of :func:`mmeffvit.datasets.ensure_digits` that say what the data is, such
            as ``dict(num_train=6000, num_val=1000, image_size=64, seed=0)``. Data sets that share a
            `data_root` must give the same. True means its defaults; False reads what is there and
            writes nothing.
        **kwargs: As in mmpretrain's `ImageNet`.
    """

    METAINFO = DIGITS_METAINFO

    def __init__(self, data_root: str, split: str, make: dict | bool = True, **kwargs) -> None:
        self._make = make
        # mmpretrain looks for the list of files before it is told whether to load it
        kwargs.setdefault("ann_file", f"meta/{split}.txt")
        super().__init__(data_root=data_root, split=split, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Write the data if need be, and read the list of files."""
        ensure_made(ensure_digits, self.data_root, self._make, layout="imagenet")
        return super().load_data_list()
