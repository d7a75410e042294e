"""The object detection data of KITTI as it is published: folders of sweeps, labels and calibration.

Geiger et al., Are we ready for autonomous driving? The KITTI vision benchmark suite, CVPR 2012; the
formats are those of its development kit.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mmeffvit.datasets.made import MadeOnFirstUse
from mmeffvit.datasets.points.sweeps.base import BaseSweepDataset, read_lines
from mmeffvit.ops.points import wrap_angle
from mmeffvit.registry import DATASETS

#: what is not told from a class, and so counts neither way for it
_LOOKS_LIKE = {"Van": "Car", "Person_sitting": "Pedestrian"}

#: names in label files that are no classes of KITTI's own benchmark
OTHER_TYPES = ("Van", "Truck", "Person_sitting", "Tram", "Misc", "DontCare")

#: difficulty -> least height in the image (pixels), worst occlusion, most truncation
DIFFICULTIES = {"easy": (40, 0, 0.15), "moderate": (25, 1, 0.3), "hard": (25, 2, 0.5)}


@DATASETS.register_module()
class KittiSweepDataset(MadeOnFirstUse, BaseSweepDataset):
    """Sweeps of KITTI in its own folders; nothing has to be converted.

    ``data_root`` holds ``ImageSets/{train,val}.txt`` with a sweep's number per line, and
    ``training/{velodyne,label_2,calib}`` with a file per sweep. Boxes are moved from the camera's
    frame to the LiDAR's by the calibration; as everywhere, yaw is ``-rotation_y - pi / 2``, which
    takes both to stand upright. Columns of the points are x, y, z and intensity.

    Only objects in the view of the camera are labelled: `CameraViewFilter` leaves only the points
    there. ``DontCare`` regions are known in the image alone and not used.

    Args:
        ann_file: The list of sweeps.
        data_prefix: Folders ``pts``, ``label`` and ``calib``.
        difficulty: 'easy', 'moderate', 'hard', or None for all objects. In test mode harder ones,
            vans and sitting people are ignored. All are trained on.
        with_label: False for sweeps without labels, such as KITTI's own ``testing``: they can be
            tested, and nothing is measured.
        lazy_init: As in mmengine's `BaseDataset`.
        **kwargs: Of `BaseSweepDataset`, and `make`, see `MadeOnFirstUse`: arguments of
            :func:`mmeffvit.demo_data.streets.ensure_sweeps`, which writes made-up sweeps.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, or the difficulty is unknown.
    """

    METAINFO: ClassVar[dict] = {
        "classes": ("Pedestrian", "Cyclist", "Car"),
        "palette": [(106, 0, 228), (119, 11, 32), (165, 42, 42)],
    }
    maker: ClassVar = {"type": "sweeps"}

    def __init__(
        self,
        ann_file: str = "ImageSets/train.txt",
        data_prefix: dict | None = None,
        difficulty: str | None = "moderate",
        lazy_init: bool = False,
        **kwargs,
    ):
        if difficulty is not None and difficulty not in DIFFICULTIES:
            raise ValueError(
                f"difficulty must be None or one of {', '.join(DIFFICULTIES)}, got {difficulty!r}"
            )
        folders = {"pts": "velodyne", "label": "label_2", "calib": "calib"}
        prefix = {kind: f"training/{name}" for kind, name in folders.items()}
        prefix.update(data_prefix or {})
        super().__init__(ann_file=ann_file, data_prefix=prefix, lazy_init=True, **kwargs)
        self.difficulty = difficulty
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        """Read all labels and calibrations."""
        return [self._sweep(name) for name in read_lines(self.ann_file, "the list of sweeps")]

    def _sweep(self, name: str) -> dict:
        info = {"sample_name": name, "lidar_path": self.path("pts", f"{name}.bin")}
        calibration = read_calibration(self.path("calib", f"{name}.txt"))
        info["lidar2img"] = calibration["lidar2img"]
        if not self.with_label:
            return info
        objects = read_labels(self.path("label", f"{name}.txt"))
        boxes = camera_to_lidar(objects["boxes"], calibration["lidar2cam"])
        names = [_LOOKS_LIKE.get(kind, kind) for kind in objects["names"]]
        ignored = np.array([kind in _LOOKS_LIKE for kind in objects["names"]], bool)
        if self.difficulty is not None:
            height, occlusion, truncation = DIFFICULTIES[self.difficulty]
            ignored |= objects["heights"] < height
            ignored |= objects["occluded"] > occlusion
            ignored |= objects["truncated"] > truncation
        if not self.test_mode:  # a van is no example of a car, and none of anything else
            names = list(objects["names"])
        return self.add_objects(info, names, boxes, ignored)


def read_calibration(path: str) -> dict[str, np.ndarray]:
    """``lidar2cam`` (4, 4), LiDAR to the rectified camera, and ``lidar2img`` (4, 4), to pixels.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: It has no such matrices.
    """
    rows = {}
    for line in read_lines(path, "the calibration"):
        key, _, values = line.partition(":")
        rows[key.strip()] = values.split()
    matrices = []
    for key, shape in (("R0_rect", (3, 3)), ("Tr_velo_to_cam", (3, 4)), ("P2", (3, 4))):
        try:
            matrix = np.array(rows[key], np.float64).reshape(shape)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"the calibration {path} needs {key} with {shape[0] * shape[1]} numbers, found "
                f"{' '.join(rows.get(key, ['none']))}"
            ) from error
        square = np.eye(4)
        square[: shape[0], : shape[1]] = matrix
        matrices.append(square)
    rectify, to_camera, project = matrices
    lidar2cam = rectify @ to_camera
    return {"lidar2cam": lidar2cam, "lidar2img": project @ lidar2cam}


def read_labels(path: str) -> dict[str, np.ndarray | list[str]]:
    """Objects of a label file, ``DontCare`` regions left out.

    Returns:
        ``names``; ``truncated``, ``occluded`` and ``heights`` (of the box in the image, in pixels),
        (n); ``boxes`` (n, 7) in the camera's frame: height, width, length, x, y, z, rotation_y.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: A line is not an object.
    """
    names, values = [], []
    for number, line in enumerate(read_lines(path, "the label file"), 1):
        name, *numbers = line.split()
        if name == "DontCare":
            continue
        try:
            values.append(np.array(numbers[:14], np.float64).reshape(14))
        except ValueError as error:
            raise ValueError(
                f"line {number} of the label file {path} must be a class and 14 numbers, got "
                f"{line!r}"
            ) from error
        names.append(name)
    table = np.array(values).reshape(-1, 14)
    return {
        "names": names,
        "truncated": table[:, 0],
        "occluded": table[:, 1],
        "heights": table[:, 6] - table[:, 4],
        "boxes": table[:, 7:],
    }


def camera_to_lidar(boxes: np.ndarray, lidar2cam: np.ndarray) -> np.ndarray:
    """Boxes of label files in the LiDAR's frame.

    Args:
        boxes: (n, 7) height, width, length, x, y, z of the bottom, rotation_y.
        lidar2cam: (4, 4).

    Returns:
        (n, 7) float32 (x, y, z of the bottom, dx, dy, dz, yaw), yaw in [-pi, pi).
    """
    height, width, length = boxes[:, 0], boxes[:, 1], boxes[:, 2]
    inverse = np.linalg.inv(lidar2cam)
    centres = boxes[:, 3:6] @ inverse[:3, :3].T + inverse[:3, 3]
    yaw = wrap_angle(-boxes[:, 6] - np.pi / 2)
    sides = np.stack((length, width, height, yaw), axis=1)
    return np.concatenate((centres, sides), axis=1).astype(np.float32)
