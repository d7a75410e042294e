"""LiDAR sweeps of made-up streets in the layout of KITTI: data for the detection of objects.

A spinning scanner looks at a street (`mmeffvit.demo_data.streets.street`): a ring of rays per beam,
each of which ends on the first surface it meets, so that things cast shadows and far ones have few
points.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmeffvit.demo_data.folders import ensure_data
from mmeffvit.demo_data.streets.camera import Label, calibration, image_box, label_line
from mmeffvit.demo_data.streets.street import Street, StreetObject, furnish_street
from mmeffvit.registry import DATA_MAKERS

# raised whenever the same arguments give other files
FORMAT_VERSION = 2

#: elevation of the beams in degrees: close together where far things are
_BEAMS = np.concatenate((np.linspace(2, -8, 21), np.linspace(-9.5, -24, 7)))
_AZIMUTH_STEP = 0.35
_RANGE_NOISE, _GROUND_NOISE, _LOST = 0.015, 0.012, 0.05


@DATA_MAKERS.register_module(name="sweeps")
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
    if field_of_view > 360:
        raise ValueError(f"field_of_view is {field_of_view}; it must be at most 360")
    config = {
        "num_train": num_train,
        "num_val": num_val,
        "seed": seed,
        "field": field,
        "field_of_view": field_of_view,
        "min_points": min_points,
    }
    least = {"num_train": 1, "num_val": 1, "seed": 0}
    least |= {"field": 20, "field_of_view": 30, "min_points": 1}
    return ensure_data(root, "sweeps", FORMAT_VERSION, config, least, _write, workers, log)


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
    points, tags, rays = scan_street(street, rng, bounds, field_of_view)
    labels = [make_label(street, item, tags, rays, min_points) for item in street.objects]
    # what no ray meets has no label
    labels = [label for label in labels if label.num_points]
    return points, sorted(labels, key=lambda label: label.name == "DontCare")


def scan_street(
    street: Street,
    rng: np.random.Generator,
    bounds: tuple[float, float, float, float],
    field_of_view: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the scanner sees.

    Returns:
        Points (N, 4), float32, within bounds; their tags (N); and the rays (R, 3) of the scan, but
        for those that are lost whatever they meet.
    """
    directions = scanner_rays(field_of_view, rng)
    hits = street.scene.cast((0, 0, 0), directions)
    kept = rng.random(len(directions)) >= _LOST
    seen = np.flatnonzero((hits.tag >= 0) & kept)
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
    return cloud[inside].astype(np.float32), tags[inside], directions[kept]


def scanner_rays(field_of_view: float, rng: np.random.Generator) -> np.ndarray:
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


def make_label(
    street: Street, item: StreetObject, tags: np.ndarray, rays: np.ndarray, min_points: int
) -> Label:
    """What a label file says of an object.

    Args:
        street: Where it is.
        item: The object.
        tags: Of all points, see :func:`scan_street`.
        rays: Of the scan, see there; what they would meet without anything before it is what is
            visible at most.
        min_points: As in :func:`ensure_sweeps`.
    """
    number = int((tags == item.tag).sum())
    unhidden = (street.scene.only(item.tag).cast((0, 0, 0), rays).tag >= 0).sum()
    visible = number / max(unhidden, 1)
    pixels, truncated = image_box(np.array(item.box))
    return Label(
        name=item.name if number >= min_points else "DontCare",
        box=np.array(item.box),
        num_points=number,
        truncated=truncated,
        occluded=0 if visible > 0.75 else 1 if visible > 0.35 else 2,
        image_box=pixels,
    )


def _write(folder: Path, config: dict, run: Callable[..., list]) -> None:
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

        run(make, number, f"sweeps: {split} {{done}}/{{number}} made")
        names = "".join(f"{first + index:06d}\n" for index in range(number))
        (folder / "ImageSets" / f"{split}.txt").write_text(names)
        first += number
