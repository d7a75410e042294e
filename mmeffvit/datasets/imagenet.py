"""The old place of `DigitsClsDataset`, for a release."""

from mmeffvit.compat.moved import moved_names

__getattr__ = moved_names(
    __name__, {"mmeffvit.demo_data.digits.classification": ["DigitsClsDataset"]}
)
