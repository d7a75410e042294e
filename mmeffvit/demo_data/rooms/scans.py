"""Scans of made-up rooms in the layout of S3DIS: data for semantic segmentation of points.

Rooms (`mmeffvit.demo_data.rooms.furniture`) are scanned from a few places inside: rays end on the
first surface they meet, so that things hide what is behind them, and what is far away has fewer
points. Scans are thinned to one point per cell, as data of real scanners is, and all points err a
little.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mmeffvit.demo_data.folders import ensure_data
from mmeffvit.demo_data.rooms.furniture import ROOM_CLASSES, NoRoomLeftError, Room, furnish
from mmeffvit.ops.points.cells import CellKeys
from mmeffvit.registry import DATA_MAKERS

# raised whenever the same arguments give other files
FORMAT_VERSION = 2
TRAIN_AREAS, VAL_AREA = (1, 2, 3, 4, 6), 5

_SCANNERS = 4
#: 1 for as many rays upwards as downwards
_DOWNWARDS = 0.75
_LIGHT = np.array((0.25, 0.4, 0.88))
#: least points of a class that counts as present
_FEW = 20


@DATA_MAKERS.register_module(name="rooms")
def ensure_rooms(
    root: str | os.PathLike,
    num_train: int = 160,
    num_val: int = 40,
    seed: int = 0,
    spacing: float = 0.055,
    rays: int = 2600,
    noise: float = 0.004,
    workers: int | None = None,
    log: Callable[[str], None] = lambda message: None,
) -> bool:
    """Make sure that `root` holds the rooms of exactly these arguments.

    Each room is ``Area_k/<room>.pth``, written by `torch.save`: a dict of ``coord`` (N, 3) float64,
    metres, less its mean; ``color`` (N, 3) uint8; ``semantic_gt`` and ``instance_gt`` (N, 1) int64.
    Rooms for validation are in Area 5, those for training in the others, as in the usual split.
    The first room of either split has all 13 classes.

    Any number of processes may call this at the same time: one writes, the others wait. `root`
    appears when all of it is written. Data of other arguments, or with files missing, is replaced.

    Args:
        root: Folder of the data set.
        num_train: Rooms for training.
        num_val: Rooms for validation.
        seed: With the other arguments, decides every point.
        spacing: Side in metres of the cells of which each keeps one point.
        rays: That each of the four scanners in a room sends.
        noise: Standard deviation of a point's coordinates in metres.
        workers: Threads; has no influence on the result. All processors by default.
        log: Called with messages about the progress.

    Returns:
        Whether the data had to be written.

    Raises:
        ValueError: An argument is out of its range.
        ForeignFolderError: `root` holds something that is not this data.
    """
    config = {
        "num_train": num_train,
        "num_val": num_val,
        "seed": seed,
        "spacing": spacing,
        "rays": rays,
        "noise": noise,
    }
    least = {"num_train": 1, "num_val": 1, "seed": 0, "spacing": 0.01, "rays": 500, "noise": 0}
    return ensure_data(root, "rooms", FORMAT_VERSION, config, least, _write, workers, log)


def make_room(seed: int, split: str, index: int, **scan: float) -> dict[str, np.ndarray]:
    """One room, as its file has it.

    Args:
        seed: Of the data set.
        split: ``'train'`` or ``'val'``.
        index: Number of the room in its split.
        **scan: `spacing`, `rays` and `noise`, as in :func:`ensure_rooms`.
    """
    complete = index == 0
    for attempt in range(1000):
        rng = np.random.default_rng([seed, ("train", "val").index(split), index, attempt])
        try:
            room = furnish(rng, complete)
        except NoRoomLeftError:
            continue
        cloud = scan_room(room, rng, **scan)
        counts = np.bincount(cloud["semantic_gt"][:, 0], minlength=len(ROOM_CLASSES))
        # something may be hidden
        if not complete or counts.min() >= _FEW:
            return cloud
    raise RuntimeError(f"no room found for seed {seed}, {split} {index}; take another seed")


def scan_room(
    room: Room,
    rng: np.random.Generator,
    spacing: float = 0.055,
    rays: int = 2600,
    noise: float = 0.004,
) -> dict[str, np.ndarray]:
    """What scanners in a room see of it; arguments as in :func:`ensure_rooms`."""
    points, tags, normals = see(room, rng, rays)
    kept = thin(points, spacing, rng)
    points, tags, normals = points[kept], tags[kept], normals[kept]
    points = points + rng.normal(0, noise, points.shape)
    shades = 0.74 + 0.26 * np.abs(normals @ _LIGHT)
    colours = np.array([surface.colour for surface in room.surfaces])
    # the light differs from room to room; cameras err from point to point
    colours = colours[tags] * (shades * rng.uniform(0.85, 1.1))[:, None]
    colours += rng.normal(0, 7, (len(tags), 1)) + rng.normal(0, 3, colours.shape)
    labels = np.array([surface.label for surface in room.surfaces])
    instances = np.array([surface.instance for surface in room.surfaces])
    return {
        "coord": points - points.mean(0),
        "color": colours.round().clip(0, 255).astype(np.uint8),
        "semantic_gt": labels[tags][:, None],
        "instance_gt": instances[tags][:, None],
    }


def see(
    room: Room, rng: np.random.Generator, rays: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3) where the rays of all scanners end, their tags (N) and normals (N, 3)."""
    seen = []
    for origin in place_scanners(room, rng):
        directions = sphere(rays, rng)
        hits = room.scene.cast(origin, directions)
        ends = np.flatnonzero(hits.tag >= 0)
        points = origin + hits.distance[ends, None] * directions[ends]
        seen.append((points, hits.tag[ends], hits.normal[ends]))
    points, tags, normals = (np.concatenate(parts) for parts in zip(*seen))
    return points, tags, normals


def place_scanners(room: Room, rng: np.random.Generator) -> np.ndarray:
    """Free places at the height of a tripod, (4, 3), each far from the others."""
    low, high = (0.4, 0.4, 1.35), (room.size[0] - 0.4, room.size[1] - 0.4, 1.75)
    candidates = rng.uniform(low, high, (60, 3))
    candidates = candidates[~room.scene.holds(candidates, margin=0.2)]
    if len(candidates) < _SCANNERS:
        raise NoRoomLeftError
    chosen = [0]
    gaps = np.full(len(candidates), np.inf)
    for _ in range(_SCANNERS - 1):
        step = np.linalg.norm(candidates - candidates[chosen[-1]], axis=1)
        gaps = np.minimum(gaps, step)
        chosen.append(int(gaps.argmax()))
    return candidates[chosen]


def sphere(count: int, rng: np.random.Generator) -> np.ndarray:
    """Directions (count, 3) all over the sphere, turned and shaken at random.

    They are denser downwards, where the furniture is.
    """
    index = np.arange(count) + 0.5
    z, around = 1 - 2 * (index / count) ** _DOWNWARDS, np.pi * (1 + 5**0.5) * index
    rim, around = np.sqrt(1 - z * z), around + rng.uniform(0, 2 * np.pi)
    directions = np.stack((np.cos(around) * rim, np.sin(around) * rim, z), axis=1)
    directions += rng.normal(0, 0.3 / count**0.5, directions.shape)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def thin(points: np.ndarray, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Indices of one point of each cell, drawn at random; ascending."""
    order = rng.permutation(len(points))
    cells = torch.from_numpy(np.floor(points[order] / spacing).astype(np.int64))
    _, first = np.unique(CellKeys(cells).keys.numpy(), return_index=True)
    return np.sort(order[first])


def _write(folder: Path, config: dict, run: Callable[..., list]) -> None:
    for area in (*TRAIN_AREAS, VAL_AREA):
        (folder / f"Area_{area}").mkdir()
    settings = {name: config[name] for name in ("spacing", "rays", "noise")}
    for split in ("train", "val"):

        def make(index: int, split: str = split) -> None:
            area = TRAIN_AREAS[index % len(TRAIN_AREAS)] if split == "train" else VAL_AREA
            path = folder / f"Area_{area}" / f"room_{index + 1:04d}.pth"
            torch.save(make_room(config["seed"], split, index, **settings), path)

        run(make, config[f"num_{split}"], f"rooms: {split} {{done}}/{{number}} made")
