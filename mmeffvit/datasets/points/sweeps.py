"""LiDAR sweeps made on the spot, in the layout of KITTI: data for the detection of objects.

Streets are furnished at random with solids (`mmeffvit.datasets.points.scene_streets`), and a
spinning scanner looks at them: a ring of rays per beam, each of which ends on the first surface it
meets, so that things cast shadows and far ones have few points.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mmeffvit.datasets.folders import check_least, ensure_folder
from mmeffvit.datasets.parallel import make_all
from mmeffvit.datasets.points.scene_streets import Street, StreetObject, furnish_street
from mmeffvit.ops.points import bev_boxes, box_corners, wrap_angle

# raised whenever the same arguments give other files
FORMAT_VERSION = 1

#: elevation of the beams in degrees: close together where far things are
_BEAMS = np.concatenate((np.linspace(2, -8, 21), np.linspace(-9.5, -24, 7)))
_AZIMUTH_STEP = 0.35
_RANGE_NOISE, _GROUND_NOISE, _LOST = 0.015, 0.012, 0.05

#: a camera beside the scanner, which sees 90 degrees; pixels
IMAGE_SIZE = (1242, 375)
_FOCAL = 621.0
_BASELINES = (0.0, -0.537, 0.06, -0.473)
#: scanner to camera: x right, y down, z forward, and a little tilted
_TILT, _OFFSET = math.radians(0.4), (-0.004, -0.076, -0.272)


@dataclasses.dataclass
class Label:
    """A line of a label file, with the box in the frame of the scanner.

    Attributes:
        name: Class.
        box: (7,), x, y, z of the middle of the bottom, length, width, height, yaw.
        num_points: Points on it.
        truncated: Share of it, from 0 to 1, that lies outside of the image.
        occluded: 0 if (almost) all that could be seen is seen, 1 for a part, 2 for little.
        image_box: (4,), left, top, right, bottom in pixels; -1 where the camera does not see it.
    """

    name: str
    box: np.ndarray
    num_points: int
    truncated: float
    occluded: int
    image_box: np.ndarray


def ensure_sweeps(
    root: str | os.PathLike,
    num_train: int = 160,
    num_val: int = 40,
    seed: int = 0,
    field: float = 40.0,
    field_of_view: float = 90.0,
    min_points: int = 5,
    workers: int | None = None,
    log: Callable[[str], None] = lambda message: None,
) -> bool:
    """Make sure that `root` holds the sweeps of exactly these arguments.

    Folders are those of KITTI's object detection: ``ImageSets/train.txt`` and ``val.txt``, and
    ``training/velodyne`` (``000000.bin``, float32 (N, 4): x, y, z, intensity), ``label_2`` (boxes
    in the frame of the camera) and ``calib``. There are no images. Classes are Car, Pedestrian and
    Cyclist; one with too few points is a DontCare region, and so nothing to be found.

    Any number of processes may call this at the same time: one writes, the others wait. `root`
    appears when all of it is written. Data of other arguments, or with files missing, is replaced.

    Args:
        root: Folder of the data set.
        num_train: Sweeps for training.
        num_val: Sweeps for validation.
        seed: With the other arguments, decides every point.
        field: Side in metres of the square that is scanned. It lies in front of the scanner (x from
            0, y to both sides), or around it if the field of view is more than 180 degrees.
        field_of_view: Angle that the scanner turns through, in degrees, half of it to each side.
            The camera sees 90; boxes beyond have no place in the image, and count only for
            evaluations without difficulties.
        min_points: Least number of points of an object with a box.
        workers: Threads; has no influence on the result. All processors by default.
        log: Called with messages about the progress.

    Returns:
        Whether the data had to be written.

    Raises:
        ValueError: An argument is out of its range.
        ForeignFolderError: `root` holds something that is not this data.
    """
    check_least(
        num_train=(num_train, 1),
        num_val=(num_val, 1),
        seed=(seed, 0),
        field=(field, 20),
        field_of_view=(field_of_view, 30),
        min_points=(min_points, 1),
    )
    if field_of_view > 360:
        raise ValueError(f"field_of_view is {field_of_view}; it must be at most 360")
    config = {
        "data": "mmeffvit sweeps",
        "format_version": FORMAT_VERSION,
        "num_train": num_train,
        "num_val": num_val,
        "seed": seed,
        "field": field,
        "field_of_view": field_of_view,
        "min_points": min_points,
    }
    return ensure_folder(root, config, functools.partial(_write, config, workers, log), log)


def make_sweep(
    seed: int,
    split: str,
    index: int,
    field: float = 40.0,
    field_of_view: float = 90.0,
    min_points: int = 5,
) -> tuple[np.ndarray, list[Label]]:
    """One sweep: points (N, 4), float32, and what is to be found.

    Args:
        seed: Of the data set.
        split: ``'train'`` or ``'val'``.
        index: Number of the sweep in its split.
        field: As in :func:`ensure_sweeps`.
        field_of_view: As in :func:`ensure_sweeps`.
        min_points: As in :func:`ensure_sweeps`.
    """
    rng = np.random.default_rng([seed, ("train", "val").index(split), index])
    half = field / 2
    bounds = (-half, -half, half, half) if field_of_view > 180 else (0.0, -half, field, half)
    street = furnish_street(rng, bounds)
    points, tags = scan_street(street, rng, bounds, field_of_view)
    rays = _rays(field_of_view, rng)
    labels = [_label(item, tags, rays, min_points) for item in street.objects]
    # something hidden altogether is nobody's care
    labels = [label for label in labels if label.num_points]
    return points, sorted(labels, key=lambda label: label.name == "DontCare")


def scan_street(
    street: Street,
    rng: np.random.Generator,
    bounds: tuple[float, float, float, float],
    field_of_view: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 4), float32, that the scanner sees within bounds, and their tags (N)."""
    directions = _rays(field_of_view, rng)
    hits = street.scene.cast((0, 0, 0), directions)
    seen = np.flatnonzero((hits.tag >= 0) & (rng.random(len(directions)) >= _LOST))
    distance, tags = hits.distance[seen], hits.tag[seen]
    slant = np.abs((hits.normal[seen] * directions[seen]).sum(1))
    points = (distance + rng.normal(0, _RANGE_NOISE, len(seen)))[:, None] * directions[seen]
    # the street is neither even nor smooth
    ground = tags == 0
    x, y = points[ground, 0], points[ground, 1]
    waves = 0.02 * np.sin(0.5 * x + rng.uniform(0, 6)) * np.sin(0.4 * y + rng.uniform(0, 6))
    points[ground, 2] += waves + rng.normal(0, _GROUND_NOISE, len(x))
    intensity = np.array(street.reflectance)[tags] * (0.55 + 0.45 * slant) * np.exp(-distance / 90)
    intensity = (intensity + rng.normal(0, 0.03, len(tags))).clip(0, 0.99)
    x0, y0, x1, y1 = bounds
    x, y = points[:, 0], points[:, 1]
    inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    cloud = np.concatenate((points, intensity[:, None].round(2)), axis=1)
    return cloud[inside].astype(np.float32), tags[inside]


def calibration() -> dict[str, np.ndarray]:
    """Matrices of the rig by their names in KITTI's files: P0 to P3 (3, 4), R0_rect (3, 3), ..."""
    width, height = IMAGE_SIZE
    matrices = {}
    for index, baseline in enumerate(_BASELINES):
        project = np.array(
            [[_FOCAL, 0, width / 2, _FOCAL * baseline], [0, _FOCAL, height / 2, 0], [0, 0, 1, 0]]
        )
        matrices[f"P{index}"] = project
    axes = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float)
    cos, sin = math.cos(_TILT), math.sin(_TILT)
    tilt = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    matrices["R0_rect"] = tilt.T
    matrices["Tr_velo_to_cam"] = np.column_stack((tilt @ tilt @ axes, _OFFSET))
    matrices["Tr_imu_to_velo"] = np.column_stack((np.eye(3), (-0.81, 0.32, -0.8)))
    return matrices


def to_camera(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) of the scanner's frame in that of the rectified camera."""
    matrices = calibration()
    to_cam = matrices["Tr_velo_to_cam"]
    return (points @ to_cam[:, :3].T + to_cam[:, 3]) @ matrices["R0_rect"].T


def corners(box: np.ndarray) -> np.ndarray:
    """The corners (8, 3) of a box with its z at the bottom, the lower four first."""
    plane = box_corners(bev_boxes(torch.from_numpy(np.asarray(box, float)[None])))[0].numpy()
    heights = np.repeat((box[2], box[2] + box[5]), 4)
    return np.column_stack((np.tile(plane, (2, 1)), heights))


def label_line(label: Label) -> str:
    """A label as KITTI has it: class, truncation, occlusion, alpha, image box, h w l, x y z, ry."""
    image_box = " ".join(f"{v:.2f}" for v in label.image_box)
    if label.name == "DontCare":
        return f"DontCare -1 -1 -10 {image_box} -1 -1 -1 -1000 -1000 -1000 -10"
    length, width, height, yaw = label.box[3:]
    position = to_camera(label.box[None, :3])[0]
    rotation = wrap_angle(-yaw - math.pi / 2)
    alpha = wrap_angle(rotation - math.atan2(position[0], position[2]))
    numbers = " ".join(f"{v:.4f}" for v in (height, width, length, *position, rotation))
    return f"{label.name} {label.truncated:.2f} {label.occluded} {alpha:.2f} {image_box} {numbers}"


def _rays(field_of_view: float, rng: np.random.Generator) -> np.ndarray:
    """Directions (R, 3) of a sweep, beam by beam."""
    count = max(1, round(field_of_view / _AZIMUTH_STEP))
    azimuth = np.radians((np.arange(count) + rng.random()) / count - 0.5) * field_of_view
    elevation = np.radians(_BEAMS)[:, None]
    directions = np.stack(
        np.broadcast_arrays(
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ),
        axis=-1,
    )
    return directions.reshape(-1, 3)


def _label(item: StreetObject, tags: np.ndarray, rays: np.ndarray, min_points: int) -> Label:
    number = int((tags == item.tag).sum())
    unhidden = (item.alone.cast((0, 0, 0), rays).tag >= 0).sum() * (1 - _LOST)
    visible = number / max(unhidden, 1)
    image_box, truncated = _image_box(np.array(item.box))
    return Label(
        name=item.name if number >= min_points else "DontCare",
        box=np.array(item.box),
        num_points=number,
        truncated=truncated,
        occluded=0 if visible > 0.75 else 1 if visible > 0.35 else 2,
        image_box=image_box,
    )


def _image_box(box: np.ndarray) -> tuple[np.ndarray, float]:
    """What a box covers of the image, and the share of it that lies outside."""
    seen = to_camera(corners(box))
    if seen[:, 2].min() < 0.2:
        return np.full(4, -1.0), 1.0
    project = calibration()["P2"]
    pixels = seen @ project[:, :3].T + project[:, 3]
    pixels = pixels[:, :2] / pixels[:, 2:]
    whole = np.concatenate((pixels.min(0), pixels.max(0)))
    last = np.array(IMAGE_SIZE * 2) - 1.0
    inside = whole.clip(0, last)
    area, left = ((b[2] - b[0]) * (b[3] - b[1]) for b in (whole, inside))
    if left <= 0:
        return np.full(4, -1.0), 1.0
    return inside, float(1 - left / area)


def _write(config: dict, workers: int | None, log: Callable[[str], None], folder: Path) -> None:
    folders = {kind: folder / "training" / kind for kind in ("velodyne", "label_2", "calib")}
    for path in (folder / "ImageSets", *folders.values()):
        path.mkdir(parents=True)
    rig = "".join(
        f"{name}: {' '.join(f'{v:.12e}' for v in matrix.ravel())}\n"
        for name, matrix in calibration().items()
    )
    settings = {name: config[name] for name in ("field", "field_of_view", "min_points")}
    first = 0
    for split in ("train", "val"):
        number = config[f"num_{split}"]

        def make(index: int, split: str = split, first: int = first) -> None:
            points, labels = make_sweep(config["seed"], split, index, **settings)
            name = f"{first + index:06d}"
            points.tofile(folders["velodyne"] / f"{name}.bin")
            lines = "".join(label_line(label) + "\n" for label in labels)
            (folders["label_2"] / f"{name}.txt").write_text(lines)
            (folders["calib"] / f"{name}.txt").write_text(rig)

        make_all(make, number, workers, log, f"sweeps: {split} {{done}}/{{number}} made")
        names = "".join(f"{first + index:06d}\n" for index in range(number))
        (folder / "ImageSets" / f"{split}.txt").write_text(names)
        first += number
