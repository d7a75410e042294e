"""Transforms for the toolboxes' pipelines."""

from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile

from mmeffvit.registry import TRANSFORMS


class UnreadableImageError(RuntimeError):
    """An image of a data set is missing, broken, or not of the size its annotations say."""


@TRANSFORMS.register_module()
class LoadImageFromFile(MMCVLoadImageFromFile):
    """mmcv's `LoadImageFromFile`, with errors that always name the file.

    mmcv's own is silent about the name when a file is empty, and does not notice an image that is
    not the one that was annotated. Takes the same arguments.

    Raises:
        UnreadableImageError: The image cannot be read, or its size is not that of its annotations.
    """

    def transform(self, results: dict) -> dict | None:
        """Load ``results['img_path']``; see the class."""
        path = results["img_path"]
        try:
            loaded = super().transform(results)
        except Exception as error:
            raise UnreadableImageError(
                f"cannot read the image {path}: {type(error).__name__}: {error}. "
                "Restore the file, or take it out of the annotations."
            ) from error
        if loaded is None:  # ignore_empty
            return None
        annotated = (results.get("height"), results.get("width"))
        if None not in annotated and annotated != tuple(loaded["ori_shape"]):
            raise UnreadableImageError(
                f"the image {path} is {loaded['ori_shape']} (height, width), but its annotations "
                f"say {annotated}: boxes and masks would not fit it. Restore the file."
            )
        return loaded
