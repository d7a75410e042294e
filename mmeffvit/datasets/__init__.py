"""Small real data sets that need no download, in the layouts the toolboxes read.

The writers here need no toolbox; the classes in `mmeffvit.datasets.coco` (mmdet), `.ade` (mmseg),
`.imagenet` (mmpretrain) and `.transforms` (mmcv) do, and are imported when the registry looks them
up.
"""

from mmeffvit.datasets.digits import DIGITS_METAINFO, ensure_digits, write_digits

__all__ = ["DIGITS_METAINFO", "ensure_digits", "write_digits"]
