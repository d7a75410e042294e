"""Writing predictions on point clouds: a picture per cloud, and files for programs."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.predictions import Journal, PredictionWriter, describe_classes
from mmeffvit.files import whole_file
from mmeffvit.visualization.points.hooks import to_boxes
from mmeffvit.visualization.points.rooms import draw_room_prediction, make_palette
from mmeffvit.visualization.points.sweeps import draw_sweep_prediction


class RoomWriter(PredictionWriter):
    """The class of every point as ``labels/NAME.npy``; ``classes.json`` says what they are.

    An array has one number per point of the room's file, in its order.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        classes = self.metainfo["classes"]
        palette = self.metainfo.get("palette") or []
        self._palette = palette if len(palette) >= len(classes) else make_palette(len(classes))
        self._write_json("classes.json", describe_classes(classes, self._palette))

    def _note(self, path: Path, sample: Any) -> None:
        labels = np.asarray(sample.pred_pts_seg.pts_semantic_mask)
        if len(labels) != len(sample.coord):
            raise LaunchError(
                f"{len(labels)} predictions are not one for each of the {len(sample.coord)} points "
                f"of {path}: the test pipeline leaves points out for good; use one that votes "
                "(TestTimeFragments) or keeps the way back (GridSample(mode='val'))."
            )
        dtype = np.uint8 if len(self.metainfo["classes"]) <= 256 else np.uint16
        with whole_file(self._file("labels", path, ".npy")) as scratch:
            np.save(scratch, labels.astype(dtype))

    def _picture(self, path: Path, sample: Any) -> Image.Image:
        colours = sample.get("color")
        if colours is None:
            colours = np.full(sample.coord.shape, 170.0)
        labels = np.asarray(sample.pred_pts_seg.pts_semantic_mask)
        classes = self.metainfo["classes"]
        name = str(self.names[path])
        return draw_room_prediction(sample.coord, colours, labels, classes, self._palette, name)


class SweepWriter(PredictionWriter):
    """Boxes as ``predictions.json``: a list with ``file_name`` and ``objects`` for every sweep.

    An object has its ``class``, ``label``, ``score``, and ``box``: x, y, z of the bottom, length,
    width, height in metres and yaw, 0 along +x and growing towards +y, in the frame of the scanner;
    with ``velocity``, x and y in metres a second, where the model says it. Until it is closed,
    ``predictions.jsonl`` has a line per sweep.

    Args:
        out_dir: As of the parent.
        metainfo: As of the parent.
        names: As of the parent.
        score_thr: What scores less is left out.
    """

    def __init__(
        self, out_dir: Path, metainfo: dict[str, Any], names: dict[Path, Path], score_thr: float
    ) -> None:
        super().__init__(out_dir, metainfo, names)
        self.score_thr = score_thr
        self._journal = Journal(out_dir)

    def _note(self, path: Path, sample: Any) -> None:
        found = sample.pred_instances_3d
        rows = np.asarray(getattr(found.bboxes_3d, "tensor", found.bboxes_3d), float)
        scores, labels = np.asarray(found.scores_3d, float), np.asarray(found.labels_3d, int)
        objects = []
        for index in np.argsort(-scores, kind="stable"):
            if scores[index] < self.score_thr:
                break
            row = [round(float(value), 4) for value in rows[index]]
            known = {
                "label": int(labels[index]),
                "class": str(self.metainfo["classes"][labels[index]]),
                "score": round(float(scores[index]), 5),
                "box": row[:7],
            }
            objects.append({**known, "velocity": row[7:9]} if len(row) >= 9 else known)
        self._journal.append({"file_name": str(path), "objects": objects})

    def _picture(self, path: Path, sample: Any) -> Image.Image:
        found = sample.pred_instances_3d
        boxes = to_boxes(found.bboxes_3d, found.labels_3d, found.scores_3d)
        classes, name = self.metainfo["classes"], str(self.names[path])
        return draw_sweep_prediction(sample.points, boxes, classes, self.score_thr, name)

    def close(self) -> None:
        """Write ``predictions.json``."""
        self._write_json("predictions.json", list(self._journal))
        self._journal.remove()


def create_cloud_writer(
    sample: Any,
    out_dir: str | Path,
    metainfo: dict[str, Any],
    names: dict[Path, Path],
    score_thr: float = 0.3,
) -> PredictionWriter:
    """The writer for what a data sample holds; arguments are those of the writers.

    Raises:
        LaunchError: It holds neither labels of points nor boxes in space.
    """
    out_dir = Path(out_dir)
    if "pred_pts_seg" in sample:
        return RoomWriter(out_dir, metainfo, names)
    if "pred_instances_3d" in sample:
        return SweepWriter(out_dir, metainfo, names, score_thr)
    raise LaunchError(
        "Written can be pred_pts_seg and pred_instances_3d; this model predicts "
        f"{', '.join(sample.keys()) or 'nothing'}."
    )
