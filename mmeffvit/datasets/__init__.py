"""Small real data sets that need no download, in the layouts the toolboxes read.

The writers here need neither mmcv nor mmdet; `mmeffvit.datasets.coco` and
`mmeffvit.datasets.transforms` do, and are imported when the registry looks their classes up.
"""

from mmeffvit.datasets.digits import DIGITS_METAINFO, ensure_digits, write_digits

__all__ = ["DIGITS_METAINFO", "ensure_digits", "write_digits"]
