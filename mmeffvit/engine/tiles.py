"""Predicting on large images tile by tile: small objects keep their pixels, and memory its bound.

sahi (https://github.com/obss/sahi) says where the tiles lie and merges what they found.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmeffvit.datasets.transforms import UnreadableImageError
from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.inference import Predictor, RefusedImageError
from mmeffvit.visualization.contact_sheet import Objects
from mmeffvit.visualization.hooks import to_objects
from mmeffvit.visualization.masks import Crop, CroppedMasks
from mmeffvit.visualization.pixels import keep_pixels

Tile = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the image."""
Progress = Callable[[Path, int, int], Any]


class TiledPredictor:
    """Predicts on images in tiles, each of which goes through the test pipeline as an image.

    Detectors see the whole image too, shrunk to the size of a tile, for objects that are larger
    than the overlap and may be whole in no tile; what overlaps by half of the smaller one, and is
    of one class, is merged (sahi's greedy non-maximum merging). Boxes of objects with masks are
    those of the merged masks. Logits of segmentors are averaged where tiles overlap, as in mmseg's
    ``slide`` mode, of which only a band as high as a tile is kept.

    Args:
        predictor: Of images that fit the memory.
        size: Height and width of a tile in pixels.
        overlap: Of neighbours, as a share of the tile.
        score_thr: Objects that score less are left out before they are merged.
        progress: Called with the image, the number of tiles done and of all.

    Raises:
        LaunchError: sahi is not installed, or size or overlap is not possible.
    """

    def __init__(
        self,
        predictor: Predictor,
        size: int,
        overlap: float = 0.2,
        score_thr: float = 0.3,
        progress: Progress = lambda path, done, count: None,
    ) -> None:
        if size < 32 or not 0 <= overlap < 1:
            raise LaunchError(
                f"Tiles of {size} pixels that overlap by {overlap}: a tile needs 32 pixels at "
                "least, and the overlap is a share of it from 0 to below 1."
            )
        _sahi()
        self.predictor = predictor
        self.size = size
        self.overlap = overlap
        self.score_thr = score_thr
        self.progress = progress

    def run(
        self, paths: Iterable[str | os.PathLike], batch_size: int = 1
    ) -> Iterator[tuple[Path, Any]]:
        """Predict on images; arguments and results are those of :meth:`Predictor.run`.

        Args:
            paths: Image files.
            batch_size: Tiles at once.

        Raises:
            LaunchError: The model predicts neither boxes nor label maps.
        """
        for index, path in enumerate(map(Path, paths)):
            try:
                yield path, self._predict(path, index, batch_size)
            except (UnreadableImageError, RefusedImageError) as error:
                yield path, error

    def _predict(self, path: Path, index: int, batch_size: int) -> Any:
        loaded = self.predictor.read(path, index)
        image = loaded["img"]
        tiles = cut(image.shape[:2], self.size, self.overlap)
        found = self._in_tiles(loaded, tiles, batch_size)
        first = next(found)
        found = itertools.chain([first], found)
        kind = first[1]
        if "pred_instances" in kind:
            result = self._merge_objects(loaded, tiles, found)
        elif "seg_logits" in kind:
            result = type(kind)(metainfo={})
            labels = average(found, image.shape[:2], self._threshold())
            result.pred_sem_seg = PixelData(data=labels[None])
        else:
            raise LaunchError(
                "Tiles are for detectors and segmentors, whose boxes and label maps can be put "
                f"together; this model predicts {', '.join(kind.keys()) or 'nothing'}."
            )
        result.set_metainfo(
            {"img_path": str(path), "img_id": index, "ori_shape": tuple(image.shape[:2])}
        )
        keep_pixels(result, image)
        return result

    def _in_tiles(
        self, loaded: dict[str, Any], tiles: Sequence[Tile], batch_size: int
    ) -> Iterator[tuple[Tile, Any]]:
        """Every tile with its data sample; at the edges too they are of one size."""
        path, image = Path(loaded["img_path"]), loaded["img"]
        for start in range(0, len(tiles), batch_size):
            batch = tiles[start : start + batch_size]
            views = [image[y0:y1, x0:x1] for x0, y0, x1, y1 in batch]
            yield from zip(batch, self._on(loaded, views))
            self.progress(path, start + len(batch), len(tiles))

    def _on(self, loaded: dict[str, Any], views: Sequence[np.ndarray]) -> list[Any]:
        """Predictions on parts of an image, or on smaller versions of it."""
        samples = []
        for view in views:
            shape = view.shape[:2]
            part = {**loaded, "img": view, "img_shape": shape, "ori_shape": shape}
            samples.append({**self.predictor.prepare(part), "pixels": None})
        return self.predictor.predict_or_refuse(loaded["img_path"], samples)

    # -- boxes and masks ---------------------------------------------------------------------------

    def _merge_objects(
        self, loaded: dict[str, Any], tiles: Sequence[Tile], found: Iterable[tuple[Tile, Any]]
    ) -> Any:
        image = loaded["img"]
        height, width = shape = image.shape[:2]
        kind, pieces = None, []
        for (x0, y0, *_), sample in found:
            kind = type(sample)
            pieces += self._pieces(sample, (x0, y0), 1.0, shape)
        if len(tiles) > 1:
            scale = max(height, width) / self.size
            small = (max(1, round(width / scale)), max(1, round(height / scale)))
            view = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
            (sample,) = self._on(loaded, [view])
            # what is no longer than the overlap is whole, and sharper, in one of the tiles
            least = self.overlap * self.size / scale
            pieces += self._pieces(sample, (0, 0), scale, shape, least)
        result = kind(metainfo={})
        result.pred_instances = _to_instances(merge(pieces), shape)
        return result

    def _pieces(
        self,
        sample: Any,
        corner: tuple[int, int],
        scale: float,
        shape: tuple[int, int],
        least: float = 0.0,
    ) -> list[Any]:
        """Objects of a view as sahi's predictions in the image, those longer than `least`."""
        objects = to_objects(sample.pred_instances, sample.ori_shape).best(self.score_thr)
        sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
        objects = objects.select(sides.max(1, initial=0) >= least)
        return [_piece(objects, i, corner, scale, shape) for i in range(len(objects))]

    # -- label maps --------------------------------------------------------------------------------

    def _threshold(self) -> float:
        head = self.predictor.model.decode_head
        head = head[-1] if isinstance(head, torch.nn.ModuleList) else head
        return getattr(head, "threshold", None) or 0.5


def cut(shape: tuple[int, int], size: int, overlap: float) -> list[Tile]:
    """Tiles of one size that cover an image, row by row; the last ones are moved inside.

    Args:
        shape: Height and width of the image.
        size: Of a tile; a smaller image is one tile.
        overlap: Of neighbours, as a share of the tile.
    """
    boxes = _sahi().slicing.get_slice_bboxes(
        image_height=shape[0],
        image_width=shape[1],
        slice_height=size,
        slice_width=size,
        auto_slice_resolution=False,
        overlap_height_ratio=overlap,
        overlap_width_ratio=overlap,
    )
    return [tuple(box) for box in boxes]


def merge(pieces: Sequence[Any]) -> list[Any]:
    """Put together what several views have found of one object; sahi's predictions.

    Repeated until nothing changes: a part that has grown by merging may cover others.
    """
    combine = _sahi().postprocess.combine.GreedyNMMPostprocess(
        match_threshold=0.5, match_metric="IOS", class_agnostic=False
    )
    merged, count = list(pieces), None
    while len(merged) > 1 and len(merged) != count:
        count, merged = len(merged), combine(merged)
    return merged


def average(
    found: Iterable[tuple[Tile, Any]], shape: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """The classes of an image from the logits of its tiles, averaged where these overlap.

    Args:
        found: Tiles row by row, each with a sample whose ``seg_logits`` are (C, h, w).
        shape: Height H and width W of the image.
        threshold: Of a single channel, above which a pixel is of class 1.

    Returns:
        (H, W), of uint8 if there are fewer than 256 classes.
    """
    labels, band, counts, top = None, None, None, 0

    def settle(bottom: int) -> None:
        rows = bottom - top
        mean = band[:, :rows] / counts[:rows]
        chosen = mean[0] > threshold if len(mean) == 1 else mean.argmax(0)
        labels[top:bottom] = chosen.to(labels.dtype)

    for (x0, y0, x1, y1), sample in found:
        logits = sample.seg_logits.data.float()
        if band is None:
            band = logits.new_zeros(len(logits), y1 - y0, shape[1])
            counts = logits.new_zeros(y1 - y0, shape[1])
            dtype = torch.uint8 if len(logits) < 256 else torch.int16
            labels = torch.zeros(shape, dtype=dtype)
        if y0 > top:
            settle(y0)
            kept = len(counts) - (y0 - top)
            for part in (band, counts):
                part[..., :kept, :] = part[..., -kept:, :].clone() if kept > 0 else 0
                part[..., max(kept, 0) :, :] = 0
            top = y0
        band[:, :, x0:x1] += logits
        counts[:, x0:x1] += 1
    settle(shape[0])
    return labels


def _piece(
    objects: Objects, index: int, corner: tuple[int, int], scale: float, shape: tuple[int, int]
) -> Any:
    sahi = _sahi()
    box = objects.boxes[index] * scale + np.tile(corner, 2)
    outlines = None
    if objects.masks is not None:
        outlines = sahi.utils.cv.get_coco_segmentation_from_bool_mask(objects.masks[index])
        if not outlines:  # fewer than three pixels
            x0, y0, x1, y1 = objects.boxes[index].tolist()
            outlines = [[x0, y0, x1, y0, x1, y1, x0, y1]]
        shift = np.array(corner)
        outlines = [
            (np.reshape(line, (-1, 2)) * scale + shift).ravel().tolist() for line in outlines
        ]
    return sahi.prediction.ObjectPrediction(
        bbox=box.tolist(),
        category_id=int(objects.labels[index]),
        score=float(objects.scores[index]),
        segmentation=outlines,
        shift_amount=[0, 0],
        full_shape=list(shape),
    )


def _to_instances(merged: Sequence[Any], shape: tuple[int, int]) -> InstanceData:
    boxes, crops = [], []
    for piece in merged:
        box = piece.bbox.to_xyxy()
        if piece.mask is not None:
            crop = _fill(piece.mask.segmentation, shape)
            crops.append(crop)
            height, width = crop.inside.shape
            box = [crop.x, crop.y, crop.x + width, crop.y + height]
        boxes.append([float(value) for value in box])
    instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        labels=torch.tensor([piece.category.id for piece in merged], dtype=torch.long),
        scores=torch.tensor([float(piece.score.value) for piece in merged]),
    )
    if crops:
        instances.masks = CroppedMasks(crops, shape)
    return instances


def _fill(outlines: Sequence[Sequence[float]], shape: tuple[int, int]) -> Crop:
    """What lies within outlines, which run through pixels of the rim, as sahi has them."""
    lines = [np.reshape(line, (-1, 2)).round().astype(np.int32) for line in outlines]
    limit = np.array(shape[::-1]) - 1
    lines = [line.clip(0, limit) for line in lines]
    low = np.min([line.min(0) for line in lines], 0)
    width, height = np.max([line.max(0) for line in lines], 0) - low + 1
    inside = np.zeros((height, width), np.uint8)
    cv2.fillPoly(inside, [line - low for line in lines], (1,))
    return Crop(int(low[0]), int(low[1]), inside.astype(bool))


def _sahi() -> Any:
    try:
        import sahi
        import sahi.postprocess.combine
        import sahi.prediction
        import sahi.slicing
        import sahi.utils.cv
    except ImportError as error:
        raise LaunchError(
            f"Tiles need sahi, which cuts and merges them ({error}); it is in the extra 'data': "
            "pip install sahi"
        ) from error
    return sahi
