"""Which cluster each pixel belongs to, layer by layer, in a k-means head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from mmengine.runner import Runner
from PIL import Image, ImageDraw
from torch import nn

from mmeffvit.models.heads.kmax import KMaX
from mmeffvit.registry import HOOKS
from mmeffvit.visualization.files import save_picture
from mmeffvit.visualization.hooks import PicturesHook
from mmeffvit.visualization.pixels import picture_of
from mmeffvit.visualization.segmentation import draw_labels
from mmeffvit.visualization.sheet import INK, PAPER, font

_TITLE, _GAP, _LEAST_SIDE = 26, 8, 160
#: metadata of a data sample: title -> clusters of its pixels
_MAPS = "cluster_maps"


def cluster_palette(number: int) -> list[tuple[int, int, int]]:
    """A colour for each cluster; those of two neighbours by number are far apart."""
    hues = (np.arange(number) * 0.618034 % 1 * 180).astype(np.uint8)
    tones = np.stack((hues, np.full(number, 190), 150 + np.arange(number) % 3 * 45), -1)
    colours = cv2.cvtColor(tones[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0]
    return [tuple(map(int, colour)) for colour in colours]


def draw_clusters(image: np.ndarray, maps: Mapping[str, np.ndarray], number: int) -> Image.Image:
    """The image, and beside it who owns each pixel, one panel per layer.

    Args:
        image: (H, W, 3), uint8, RGB.
        maps: Numbers of clusters (h, w), of any sizes, by title.
        number: Of clusters.
    """
    height, width = image.shape[:2]
    scale = max(1, -(-_LEAST_SIDE // min(height, width)))
    size = (width * scale, height * scale)
    palette = cluster_palette(number)
    panels = {"image": Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)}
    for title, clusters in maps.items():
        rows, columns = (np.arange(n) * m // n for n, m in zip(size[::-1], clusters.shape))
        panels[title] = draw_labels(image, clusters[rows[:, None], columns], palette, size)
    step = size[0] + _GAP
    sheet = Image.new("RGB", (step * len(panels) - _GAP, _TITLE + size[1]), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (title, panel) in enumerate(panels.items()):
        sheet.paste(panel, (index * step, _TITLE))
        middle = (index * step + size[0] / 2, _TITLE / 2)
        draw.text(middle, title, INK, font(14, bold=True), anchor="mm")
    return sheet


class ClusterRecorder:
    """Keeps who owned each pixel in the last forward pass of a k-means head.

    Args:
        model: Holds a `KMaX`.

    Attributes:
        maps: Title -> (B, h, w), numbers of queries; one of each resolution, its last layer's, and
            the final one.
        number: Of queries.

    Raises:
        ValueError: The model has no such head.
    """

    def __init__(self, model: nn.Module):
        heads = [module for module in model.modules() if isinstance(module, KMaX)]
        if not heads:
            raise ValueError(
                f"{type(model).__name__} has no k-means head, whose clusters could be drawn; "
                "KMaXHead and KMaXSegHead have one"
            )
        self.number, self.maps = heads[0].num_queries, {}
        decoder = heads[0].decoder
        first = 1 + np.cumsum((0, *decoder.depths))
        self._handles = [decoder.predictor.register_forward_hook(self._keep("masks"))]
        for level, depth in enumerate(decoder.depths):
            if depth:
                name = f"layer {first[level] + depth - 1}"
                layer = decoder.layers[int(first[level]) + depth - 2]
                self._handles.append(layer.predictor.register_forward_hook(self._keep(name)))

    def _keep(self, name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple, prediction: Any) -> None:
            if name in self.maps:  # a new pass: layers come in their order
                self.maps = {}
            self.maps[name] = prediction.mask_logits.argmax(1).cpu().numpy()

        return hook

    def remove(self) -> None:
        """Listen no longer."""
        for handle in self._handles:
            handle.remove()


@HOOKS.register_module()
class ClusterPicturesHook(PicturesHook):
    """Draw every test image beside the clusters of its pixels, from the first layers to the masks.

    Args:
        out_dir: Gets the pictures.
        most: Images at most.
    """

    def __init__(self, out_dir: str, most: int = 20) -> None:
        super().__init__(out_dir)
        self.most, self._drawn = most, 0
        self._recorder: ClusterRecorder | None = None

    def before_test(self, runner: Runner) -> None:
        """Listen to the head."""
        self._drawn = 0
        self._recorder = ClusterRecorder(runner.model)

    def after_test(self, runner: Runner) -> None:
        """Listen no longer."""
        self._recorder.remove()

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None
    ) -> None:
        """Draw the images of a batch."""
        outputs = list(outputs or ())[: self.most - self._drawn]
        self._drawn += len(outputs)
        for index, sample in enumerate(outputs):
            maps = {name: batch[index] for name, batch in self._recorder.maps.items()}
            sample.set_field(maps, _MAPS, field_type="metainfo")
        super().after_test_iter(runner, batch_idx, data_batch, outputs)

    def _draw(self, runner: Runner, sample: Any, file: Any) -> None:
        image, meta = picture_of(sample), sample.metainfo
        # what lies beyond the image is padding
        padded = meta.get("batch_input_shape", meta.get("pad_shape", meta["img_shape"]))
        shares = [a / b for a, b in zip(meta["img_shape"], padded)]
        maps = {}
        for name, clusters in meta[_MAPS].items():
            rows, columns = (max(1, round(n * s)) for n, s in zip(clusters.shape, shares))
            maps[name] = clusters[:rows, :columns]
        save_picture(draw_clusters(image, maps, self._recorder.number), file)
