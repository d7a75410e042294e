"""The old place of `DigitsSegDataset`, for a release."""

from mmeffvit.compat.moved import moved_names

__getattr__ = moved_names(
    __name__, {"mmeffvit.demo_data.digits.segmentation": ["DigitsSegDataset"]}
)
