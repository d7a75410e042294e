"""Writing predictions: a picture per image, and files for programs."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from PIL import Image, ImageDraw

from mmeffvit.datasets.coco_categories import COCO_CATEGORIES
from mmeffvit.engine.errors import LaunchError
from mmeffvit.files import whole_file
from mmeffvit.visualization.contact_sheet import draw_objects
from mmeffvit.visualization.files import save_picture
from mmeffvit.visualization.hooks import to_objects
from mmeffvit.visualization.segmentation import draw_label_maps
from mmeffvit.visualization.sheet import FAINT, INK, PAPER, font

PICTURES = "pictures"
# smaller images are drawn enlarged, so that names can be read
_LEAST_SIDE = 320
_TOP = 5


def name_outputs(paths: Sequence[Path]) -> dict[Path, Path]:
    """Names for the outputs of images, without suffix, that keep apart what has one name.

    Returns:
        For each image its path below the folder that all images share; where two differ in their
        suffix alone, the suffix stays part of the name.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    root = os.path.commonpath([path.parent for path in absolute]) if paths else ""
    relative = [path.relative_to(root) for path in absolute]
    stems = [path.with_suffix("") for path in relative]
    return {
        path: stem if stems.count(stem) == 1 else whole
        for path, stem, whole in zip(paths, stems, relative)
    }


class PredictionWriter:
    """Writes what a model found in images, one by one.

    Args:
        out_dir: Gets ``pictures/`` and what a kind of prediction adds.
        metainfo: Of the data set: ``classes``, and ``palette`` for segmentation.
        names: Of :func:`name_outputs`.
    """

    def __init__(self, out_dir: Path, metainfo: dict[str, Any], names: dict[Path, Path]) -> None:
        self.out_dir = out_dir
        self.metainfo = metainfo
        self.names = names

    def write(self, path: Path, sample: Any) -> None:
        """Write the prediction on an image, a data sample of a toolbox on the CPU."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what is about all images."""

    def _save_picture(self, path: Path, picture: Image.Image) -> None:
        save_picture(picture, self._file(PICTURES, path))

    def _file(self, folder: str, path: Path) -> Path:
        file = self.out_dir / folder / self.names[path]
        return file.with_name(f"{file.name}.png")

    def _write_json(self, name: str, document: Any) -> None:
        with whole_file(self.out_dir / name) as scratch:
            scratch.write_text(json.dumps(document, indent=1) + "\n")


class DetectionWriter(PredictionWriter):
    """Boxes and masks as ``predictions.json``, in COCO's format with a ``score`` per annotation.

    Categories have COCO's ids if all classes are COCO's, and are counted from 1 otherwise. Boxes
    are x, y, width, height; masks are RLE.

    Args:
        out_dir: As of the parent.
        metainfo: As of the parent.
        names: As of the parent.
        score_thr: What scores less is left out.
    """

    def __init__(
        self,
        out_dir: Path,
        metainfo: dict[str, Any],
        names: dict[Path, Path],
        score_thr: float = 0.3,
    ) -> None:
        super().__init__(out_dir, metainfo, names)
        self.score_thr = score_thr
        known = {name: number for number, name, _ in COCO_CATEGORIES}
        classes = metainfo["classes"]
        of_coco = all(name in known for name in classes)
        self._ids = [known[name] if of_coco else i + 1 for i, name in enumerate(classes)]
        self._images: list[dict] = []
        self._annotations: list[dict] = []

    def write(self, path: Path, sample: Any) -> None:
        """Draw an image and note what is in it."""
        image = mmcv.imread(str(path), channel_order="rgb")
        height, width = image.shape[:2]
        found = to_objects(sample.pred_instances, (height, width)).best(self.score_thr)
        image_id = len(self._images) + 1
        self._images.append(
            {"id": image_id, "file_name": str(path), "height": height, "width": width}
        )
        for index in range(len(found)):
            self._annotations.append(self._annotation(found, index, image_id))
        upwards = found.select(np.arange(len(found))[::-1])  # the best lies on top
        size = _enlarged(width, height)
        self._save_picture(path, draw_objects(image, upwards, self.metainfo["classes"], size))

    def _annotation(self, found, index: int, image_id: int) -> dict:
        x0, y0, x1, y1 = (float(v) for v in found.boxes[index])
        annotation = {
            "id": len(self._annotations) + 1,
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

            rle = mask_utils.encode(np.asfortranarray(found.masks[index], np.uint8))
            annotation["area"] = int(mask_utils.area(rle))
            annotation["segmentation"] = {**rle, "counts": rle["counts"].decode()}
        return annotation

    def close(self) -> None:
        """Write ``predictions.json``."""
        names = self.metainfo["classes"]
        categories = [{"id": i, "name": name} for i, name in zip(self._ids, names)]
        document = {
            "images": self._images,
            "annotations": self._annotations,
            "categories": categories,
        }
        self._write_json("predictions.json", document)


class SegmentationWriter(PredictionWriter):
    """Label maps as PNG files in ``labels/``; ``classes.json`` says what the labels are.

    Labels are counted as in the annotation files of the data set: of ADE20K, 0 is never predicted
    and the first class is 1.
    """

    def write(self, path: Path, sample: Any) -> None:
        """Draw an image and write its label map."""
        image = mmcv.imread(str(path), channel_order="rgb")
        labels = np.asarray(sample.pred_sem_seg.data).reshape(image.shape[:2])
        classes, palette = self.metainfo["classes"], self._palette()
        dtype = np.uint8 if len(classes) < 255 else np.uint16
        stored = (labels + self._first_label()).astype(dtype)
        save_picture(Image.fromarray(stored), self._file("labels", path))
        size = _enlarged(image.shape[1], image.shape[0])
        self._save_picture(path, draw_label_maps(image, {"": labels}, classes, palette, size))

    def close(self) -> None:
        """Write ``classes.json``."""
        entries = enumerate(zip(self.metainfo["classes"], self._palette()), self._first_label())
        classes = [
            {"label": label, "name": name, "colour": [int(v) for v in colour]}
            for label, (name, colour) in entries
        ]
        self._write_json("classes.json", classes)

    def _first_label(self) -> int:
        return int(bool(self.metainfo.get("reduce_zero_label")))

    def _palette(self) -> Sequence[Sequence[int]]:
        palette = self.metainfo.get("palette")
        if palette is None or isinstance(palette, str):
            rng = np.random.default_rng(0)
            palette = rng.integers(40, 240, (len(self.metainfo["classes"]), 3)).tolist()
        return palette


class ClassificationWriter(PredictionWriter):
    """The best classes of each image as ``predictions.json``."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._results: list[dict] = []

    def write(self, path: Path, sample: Any) -> None:
        """Draw an image with its best classes and note them."""
        scores = np.asarray(sample.pred_score, float)
        best = np.argsort(-scores, kind="stable")[:_TOP]
        top = [
            {
                "label": int(label),
                "class": str(self.metainfo["classes"][label]),
                "score": round(float(scores[label]), 5),
            }
            for label in best
        ]
        self._results.append({"file_name": str(path), **top[0], "top": top})
        image = Image.fromarray(mmcv.imread(str(path), channel_order="rgb"))
        image = image.resize(_enlarged(*image.size), Image.Resampling.BICUBIC)
        sheet = Image.new("RGB", (image.width, image.height + 22 * len(top) + 12), PAPER)
        sheet.paste(image)
        draw = ImageDraw.Draw(sheet)
        for line, entry in enumerate(top):
            y = image.height + 17 + 22 * line
            letters = font(14, bold=line == 0)
            draw.text((8, y), f"{entry['score']:.2f}", FAINT, letters, anchor="lm")
            draw.text((52, y), entry["class"], INK, letters, anchor="lm")
        self._save_picture(path, sheet)

    def close(self) -> None:
        """Write ``predictions.json``."""
        self._write_json("predictions.json", self._results)


def create_writer(
    sample: Any,
    out_dir: str | os.PathLike,
    metainfo: dict[str, Any],
    names: dict[Path, Path],
    score_thr: float = 0.3,
) -> PredictionWriter:
    """The writer for what a data sample holds.

    Raises:
        LaunchError: It holds neither boxes nor a label map nor classes.
    """
    out_dir = Path(out_dir)
    if "pred_instances" in sample:
        return DetectionWriter(out_dir, metainfo, names, score_thr)
    if "pred_sem_seg" in sample:
        return SegmentationWriter(out_dir, metainfo, names)
    if "pred_score" in sample:
        return ClassificationWriter(out_dir, metainfo, names)
    raise LaunchError(
        "Written can be pred_instances (mmdet), pred_sem_seg (mmseg) and pred_score (mmpretrain); "
        f"this model predicts {', '.join(sample.keys()) or 'nothing'}."
    )


def _enlarged(width: int, height: int) -> tuple[int, int]:
    factor = -(-_LEAST_SIDE // max(width, height))
    return width * factor, height * factor
