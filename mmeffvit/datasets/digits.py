"""The old place of the digits data, for a release."""

from mmeffvit.compat.moved import moved_names

__getattr__ = moved_names(
    __name__, {"mmeffvit.demo_data.digits": ["DIGITS_METAINFO", "ensure_digits", "write_digits"]}
)
