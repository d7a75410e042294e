"""Data sets that people have on disk: their layouts, and checks of what is in their files.

`mmeffvit.datasets.points` has rooms and LiDAR sweeps, `mmeffvit.datasets.transforms` what the
toolboxes' own pipelines use. Made-up data is in `mmeffvit.demo_data`.
"""

from mmeffvit.compat.moved import moved_names

__getattr__ = moved_names(
    __name__, {"mmeffvit.demo_data.digits": ["DIGITS_METAINFO", "ensure_digits", "write_digits"]}
)
