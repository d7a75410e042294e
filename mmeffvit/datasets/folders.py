"""The old place of folders that are whole or absent, for a release."""

from mmeffvit.compat.moved import moved_names

__getattr__ = moved_names(
    __name__, {"mmeffvit.demo_data.folders": ["ForeignFolderError", "ensure_folder", "folder_hash"]}
)
