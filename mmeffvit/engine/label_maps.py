"""Label maps that a segmentor predicts, as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from mmeffvit.registry import HOOKS
from mmeffvit.visualization.files import save_picture
from mmeffvit.visualization.hooks import label_map
from mmeffvit.visualization.named_images import NamedImages


def first_label(metainfo: Mapping[str, Any]) -> int:
    """What the first class is in the annotation files of a data set: 1 where 0 is no class."""
    return int(bool(metainfo.get("reduce_zero_label")))


def save_label_map(sample: Any, metainfo: Mapping[str, Any], file: Path) -> None:
    """Write a predicted label map as PNG, with labels as in the annotation files of the data set.

    Args:
        sample: mmseg's `SegDataSample` on the CPU.
        metainfo: Of the data set: ``classes``, and ``reduce_zero_label``.
        file: A label takes 8 bits in it, or 16 if the classes need them.
    """
    dtype = np.uint8 if len(metainfo["classes"]) < 255 else np.uint16
    stored = label_map(sample.pred_sem_seg).astype(dtype) + dtype(first_label(metainfo))
    save_picture(Image.fromarray(stored), file)


@HOOKS.register_module()
class LabelMapsHook(NamedImages, Hook):
    """Write the predicted label map of every test image of an mmseg segmentor, as it comes.

    A map has the name of its image, with its folder where several images share a name.

    Args:
        out_dir: Gets the maps, as :func:`save_label_map` writes them.
    """

    def __init__(self, out_dir: str) -> None:
        super().__init__()
        self.out_dir = Path(out_dir)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None
    ) -> None:
        """Write the maps of a batch."""
        metainfo = runner.test_dataloader.dataset.metainfo
        for index, sample in enumerate(outputs or ()):
            name = self._name(Path(sample.get("img_path") or f"{batch_idx}_{index}"))
            save_label_map(sample.cpu(), metainfo, self.out_dir / f"{name}.png")
