"""Writing predictions: a picture per image, and files for programs."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.logging import print_log
from PIL import Image, ImageDraw

from mmeffvit.datasets.coco_categories import COCO_CATEGORIES
from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.label_maps import first_label, save_label_map
from mmeffvit.files import whole_file
from mmeffvit.visualization.contact_sheet import Objects, draw_objects
from mmeffvit.visualization.files import name_outputs, save_picture
from mmeffvit.visualization.guard import DrawingGuard
from mmeffvit.visualization.hooks import label_map, to_objects
from mmeffvit.visualization.masks import encode
from mmeffvit.visualization.pixels import picture_of
from mmeffvit.visualization.segmentation import draw_label_maps, palette_of
from mmeffvit.visualization.sheet import FAINT, INK, PAPER, font

__all__ = ["create_writer", "name_outputs", "read_annotations"]

PICTURES = "pictures"
#: what is found, a line per image, until predictions.json is written
JOURNAL = "predictions.jsonl"
# smaller images are drawn enlarged, so that names can be read
_LEAST_SIDE = 320
_TOP = 5


@dataclass(frozen=True)
class Annotations:
    """What an annotation file calls categories and images.

    Attributes:
        categories: Each with ``id`` and ``name``, in the order of the model's labels; None if the
            file does not have the model's classes.
        images: Path of an image -> its entry, with ``id`` and ``file_name``.
    """

    categories: list[dict[str, Any]] | None
    images: dict[str, dict[str, Any]]


def read_annotations(dataset: Mapping[str, Any], classes: Sequence[str]) -> Annotations | None:
    """Read the COCO file of a data set, if it is there.

    Args:
        dataset: Config of the data set that a model is tested on.
        classes: That the model knows. mmdet numbers them in the order of the file.
    """
    root, name = dataset.get("data_root") or "", dataset.get("ann_file")
    path = Path(root, name) if isinstance(name, str) and name.endswith(".json") else None
    if path is None or not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        listed, images = document["categories"], document.get("images", [])
        categories = [c for c in listed if c["name"] in classes and "id" in c]
        prefix = dataset.get("data_prefix") or {}
        folder = Path(root, prefix.get("img") or prefix.get("img_path") or "")
        named = [i for i in images if "id" in i and "file_name" in i]
        known = {os.path.abspath(folder / i["file_name"]): i for i in named}
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return None  # of another format
    return Annotations(categories if len(categories) == len(classes) else None, known)


class PredictionWriter:
    """Writes what a model found in images, one by one: a killed run keeps what it had.

    Files for programs come before the picture, and a picture that cannot be drawn is a warning.

    Args:
        out_dir: Gets ``pictures/`` and what a kind of prediction adds.
        metainfo: Of the data set: ``classes``, and ``palette`` for segmentation.
        names: Of :func:`name_outputs`.

    Attributes:
        largest_side: Of a picture in pixels; larger images are drawn smaller. None is no limit.
    """

    largest_side: int | None = None

    def __init__(self, out_dir: Path, metainfo: dict[str, Any], names: dict[Path, Path]) -> None:
        self.out_dir = out_dir
        self.metainfo = metainfo
        self.names = names
        self._guard = DrawingGuard()

    def write(self, path: Path, sample: Any) -> None:
        """Write the prediction on an image, a data sample of a toolbox on the CPU.

        Its image is that which the sample carries (see
        :func:`mmeffvit.visualization.pixels.keep_pixels`), or else the file's.
        """
        self._note(path, sample)
        warn = partial(print_log, logger="current", level=logging.WARNING)
        with self._guard.attempt(f"the picture of {path}", warn):
            save_picture(self._picture(path, sample), self._file(PICTURES, path))

    def close(self) -> None:
        """Write what is about all images."""

    def _note(self, path: Path, sample: Any) -> None:
        """Write what is for programs."""
        raise NotImplementedError

    def _picture(self, path: Path, sample: Any) -> Image.Image:
        """The picture of a prediction."""
        return self._draw(picture_of(sample, path), sample)

    def _draw(self, image: np.ndarray, sample: Any) -> Image.Image:
        """The picture of a prediction on an image (H, W, 3), uint8, RGB."""
        raise NotImplementedError

    def _picture_size(self, width: int, height: int) -> tuple[int, int]:
        longest = max(width, height)
        if self.largest_side is not None and longest > self.largest_side:
            factor = self.largest_side / longest
            return max(1, round(width * factor)), max(1, round(height * factor))
        factor = -(-_LEAST_SIDE // longest)
        return width * factor, height * factor

    def _file(self, folder: str, path: Path, suffix: str = ".png") -> Path:
        file = self.out_dir / folder / self.names[path]
        return file.with_name(f"{file.name}{suffix}")

    def _write_json(self, name: str, document: Any) -> None:
        with whole_file(self.out_dir / name) as scratch:
            scratch.write_text(json.dumps(document, indent=1) + "\n")


def describe_classes(
    classes: Sequence[str], palette: Sequence[Sequence[int]], first: int = 0
) -> list[dict[str, Any]]:
    """What labels are, for ``classes.json``; `first` is the label of the first class."""
    entries = enumerate(zip(classes, palette), first)
    return [
        {"label": label, "name": name, "colour": [int(v) for v in colour]}
        for label, (name, colour) in entries
    ]


class Journal:
    """Results of images, a JSON line each, which are on the disk at once.

    Args:
        out_dir: Gets ``predictions.jsonl``, anew, until :meth:`remove`.
    """

    def __init__(self, out_dir: Path) -> None:
        self.path = out_dir / JOURNAL
        out_dir.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("w", encoding="utf-8")

    def append(self, result: Mapping[str, Any]) -> None:
        """Add a line."""
        self._file.write(json.dumps(result) + "\n")
        self._file.flush()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self.path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    def remove(self) -> None:
        """Its content stands elsewhere."""
        self._file.close()
        self.path.unlink()


class DetectionWriter(PredictionWriter):
    """Boxes and masks as ``predictions.json``, in COCO's format with a ``score`` per annotation.

    Boxes are x, y, width, height; masks are RLE. Until it is closed, ``predictions.jsonl`` has a
    line per image.

    Args:
        out_dir: As of the parent.
        metainfo: As of the parent.
        names: As of the parent.
        score_thr: What scores less is left out.
        annotations: Of :func:`read_annotations`: the ids and names that categories and images have
            there are written. Categories have COCO's ids otherwise, if all classes are COCO's, and
            are counted from 1 if not.
    """

    def __init__(
        self,
        out_dir: Path,
        metainfo: dict[str, Any],
        names: dict[Path, Path],
        score_thr: float = 0.3,
        annotations: Annotations | None = None,
    ) -> None:
        super().__init__(out_dir, metainfo, names)
        self.score_thr = score_thr
        known = {name: number for number, name, _ in COCO_CATEGORIES}
        self._classes = list(metainfo["classes"])
        of_coco = all(name in known for name in self._classes)
        self._ids = [known[name] if of_coco else i + 1 for i, name in enumerate(self._classes)]
        self._images: dict[str, dict] = {}
        if annotations is not None:
            self._images = annotations.images
            if annotations.categories is not None:
                self._ids = [category["id"] for category in annotations.categories]
                self._classes = [category["name"] for category in annotations.categories]
        ids = (image["id"] for image in self._images.values())
        self._next_id = max((i for i in ids if isinstance(i, int)), default=0) + 1
        self._journal = Journal(out_dir)

    def _note(self, path: Path, sample: Any) -> None:
        height, width = sample.get("ori_shape") or picture_of(sample, path).shape[:2]
        found = self._objects(sample, (height, width))
        known = self._images.get(os.path.abspath(path))
        image = {"file_name": str(path), "height": int(height), "width": int(width)}
        if known is None:
            image = {"id": self._next_id, **image}
            self._next_id += 1
        else:
            image = {"id": known["id"], **image, "file_name": known["file_name"]}
        annotations = [self._annotation(found, i, image["id"]) for i in range(len(found))]
        self._journal.append({"image": image, "annotations": annotations})

    def _draw(self, image: np.ndarray, sample: Any) -> Image.Image:
        found = self._objects(sample, image.shape[:2])
        upwards = found.select(np.arange(len(found))[::-1])  # the best lies on top
        return draw_objects(image, upwards, self._classes, self._picture_size(*image.shape[1::-1]))

    def _objects(self, sample: Any, shape: tuple[int, int]) -> Objects:
        return to_objects(sample.pred_instances, shape).best(self.score_thr)

    def _annotation(self, found: Objects, index: int, image_id: Any) -> dict:
        x0, y0, x1, y1 = (float(v) for v in found.boxes[index])
        annotation = {
            "image_id": image_id,
            "category_id": self._ids[int(found.labels[index])],
            "bbox": [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)],
            "area": round((x1 - x0) * (y1 - y0), 2),
            "iscrowd": 0,
        }
        if found.scores is not None:
            annotation["score"] = round(float(found.scores[index]), 5)
        if found.masks is not None:
            from pycocotools import mask as mask_utils

            rle = encode(found.masks, index)
            annotation["area"] = int(mask_utils.area(rle))
            annotation["segmentation"] = {**rle, "counts": rle["counts"].decode()}
        return annotation

    def close(self) -> None:
        """Write ``predictions.json``."""
        images, annotations = [], []
        for result in self._journal:
            images.append(result["image"])
            for annotation in result["annotations"]:
                annotations.append({"id": len(annotations) + 1, **annotation})
        categories = [{"id": i, "name": name} for i, name in zip(self._ids, self._classes)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        self._write_json("predictions.json", document)
        self._journal.remove()


class SegmentationWriter(PredictionWriter):
    """Label maps as PNG files in ``labels/``; ``classes.json`` says what the labels are.

    Labels are counted as in the annotation files of the data set: of ADE20K, 0 is never predicted
    and the first class is 1.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._palette = palette_of(self.metainfo)
        first = first_label(self.metainfo)
        classes = describe_classes(self.metainfo["classes"], self._palette, first)
        self._write_json("classes.json", classes)

    def _note(self, path: Path, sample: Any) -> None:
        save_label_map(sample, self.metainfo, self._file("labels", path))

    def _draw(self, image: np.ndarray, sample: Any) -> Image.Image:
        labels = label_map(sample.pred_sem_seg)
        height, width = labels.shape
        if image.shape[:2] != labels.shape:
            image = cv2.resize(image, (width, height))
        size = self._picture_size(width, height)
        return draw_label_maps(image, {"": labels}, self.metainfo["classes"], self._palette, size)


class ClassificationWriter(PredictionWriter):
    """The best classes of each image as ``predictions.json``, a line each until it is closed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._journal = Journal(self.out_dir)

    def _note(self, path: Path, sample: Any) -> None:
        top = self._top(sample)
        self._journal.append({"file_name": str(path), **top[0], "top": top})

    def _top(self, sample: Any) -> list[dict]:
        scores = np.asarray(sample.pred_score, float)
        best = np.argsort(-scores, kind="stable")[:_TOP]
        return [
            {
                "label": int(label),
                "class": str(self.metainfo["classes"][label]),
                "score": round(float(scores[label]), 5),
            }
            for label in best
        ]

    def _draw(self, image: np.ndarray, sample: Any) -> Image.Image:
        top, picture = self._top(sample), Image.fromarray(image)
        picture = picture.resize(self._picture_size(*picture.size), Image.Resampling.BICUBIC)
        sheet = Image.new("RGB", (picture.width, picture.height + 22 * len(top) + 12), PAPER)
        sheet.paste(picture)
        draw = ImageDraw.Draw(sheet)
        for line, entry in enumerate(top):
            y = picture.height + 17 + 22 * line
            letters = font(14, bold=line == 0)
            draw.text((8, y), f"{entry['score']:.2f}", FAINT, letters, anchor="lm")
            draw.text((52, y), entry["class"], INK, letters, anchor="lm")
        return sheet

    def close(self) -> None:
        """Write ``predictions.json``."""
        self._write_json("predictions.json", list(self._journal))
        self._journal.remove()


def create_writer(
    sample: Any,
    out_dir: str | os.PathLike,
    metainfo: dict[str, Any],
    names: dict[Path, Path],
    score_thr: float = 0.3,
    annotations: Annotations | None = None,
) -> PredictionWriter:
    """The writer for what a data sample holds; arguments are those of the writers.

    Raises:
        LaunchError: It holds neither boxes nor a label map nor classes.
    """
    out_dir = Path(out_dir)
    if "pred_instances" in sample:
        return DetectionWriter(out_dir, metainfo, names, score_thr, annotations)
    if "pred_sem_seg" in sample:
        return SegmentationWriter(out_dir, metainfo, names)
    if "pred_score" in sample:
        return ClassificationWriter(out_dir, metainfo, names)
    raise LaunchError(
        "Written can be pred_instances (mmdet), pred_sem_seg (mmseg) and pred_score (mmpretrain); "
        f"this model predicts {', '.join(sample.keys()) or 'nothing'}."
    )
