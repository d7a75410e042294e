"""Rooms on disk: one ``.pth`` file each, a dict of numpy arrays, or a folder of ``.npy`` files.

========================  ================  ====================================================
``coord``                 (N, 3)            metres
``color``                 (N, 3)            0 to 255
``normal``                (N, 3)            may be missing
``semantic_gt``           (N, 1) or (N)     class, 255 for ignored points; other names where there
                                            are several sets of classes
``instance_gt``           (N, 1) or (N)     may be missing
========================  ================  ====================================================

A folder has a file for each entry: ``coord.npy``, ``color.npy``, ``normal.npy``, and those with
the classes under a name of the data set's choice, often ``segment.npy``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmeffvit.datasets.points.base import PointTransform
from mmeffvit.files import UnreadableError, read_torch
from mmeffvit.registry import TRANSFORMS

IGNORE_INDEX = 255
#: float32 keeps a millimetre up to here, in metres
_FARTHEST = 2**14


class RoomFileError(RuntimeError):
    """A room's file is missing, broken, or not what the data set expects; the message names it."""


def read_room(path: str | os.PathLike) -> dict[str, Any]:
    """Read a room as it is. Files saved under numpy 1 and 2 are read; no code in them runs.

    Args:
        path: A ``.pth`` file, or a folder of ``.npy`` files.

    Raises:
        RoomFileError: The file cannot be read, or holds more than arrays, numbers and text.
    """
    if Path(path).is_dir():
        return {file.stem: _read_array(file) for file in sorted(Path(path).glob("*.npy"))}
    try:
        room = read_torch(path)
    except (OSError, UnreadableError) as error:
        reason = f"it {error}" if isinstance(error, UnreadableError) else error
        raise RoomFileError(
            f"cannot read the room {path}: {reason}. A room is a dict of numpy arrays, written "
            "with torch.save; restore the file, or take it away."
        ) from error
    if not isinstance(room, Mapping):
        raise RoomFileError(
            f"the room {path} is a {type(room).__name__}; it must be a dict of numpy arrays"
        )
    return dict(room)


def find_rooms(folder: Path) -> list[Path]:
    """Rooms of a folder, in alphabetic order: ``.pth`` files, and folders with a ``coord.npy``."""
    return sorted([*folder.glob("*.pth"), *(path.parent for path in folder.glob("*/coord.npy"))])


def _read_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RoomFileError(
            f"cannot read {path}: {error}. It must be an array of numbers, written with np.save; "
            "restore the file, or take the room away."
        ) from error


@TRANSFORMS.register_module()
class LoadRoomFromFile(PointTransform):
    """Load ``results['lidar_path']``, a room, and check it.

    The data set says, in ``results``, which entry has the classes (``semantic_key``, None where
    there are none), how many there are (``num_classes``), and which label its files have where
    nothing is known (``ignore_index``, 255 if it does not say). Here that label becomes 255.

    Args:
        keys: What is loaded besides labels: of ``coord``, ``color`` and ``normal``.

    Raises:
        RoomFileError: The file cannot be read, an entry is missing or of another length, the room
            is empty, numbers are not finite, or labels are not classes.
    """

    def __init__(self, keys: Sequence[str] = ("coord", "color")):
        unknown = set(keys) - {"coord", "color", "normal"}
        if unknown or "coord" not in keys:
            raise ValueError(f"keys must be 'coord' and any of 'color' and 'normal', got {keys}")
        self.keys = tuple(keys)

    def transform(self, results: dict) -> dict:
        path, semantic_key = results["lidar_path"], results["semantic_key"]
        room = read_room(path)
        needed = [*self.keys, *([] if semantic_key is None else [semantic_key])]
        missing = [key for key in needed if key not in room]
        if missing:
            raise RoomFileError(f"the room {path} has no {missing}; it has {list(room)}")
        for key in self.keys:
            results[key] = _vectors(room[key], key, path)
        number = len(results["coord"])
        if semantic_key is not None:
            labels = _labels(room[semantic_key], semantic_key, path)
            ignored = results.get("ignore_index", IGNORE_INDEX)
            _check_classes(labels, results["num_classes"], ignored, semantic_key, path)
            results["pts_semantic_mask"] = np.where(labels == ignored, IGNORE_INDEX, labels)
            if "instance_gt" in room:
                results["pts_instance_mask"] = _labels(room["instance_gt"], "instance_gt", path)
        for key in (*self.keys, "pts_semantic_mask", "pts_instance_mask"):
            if key in results and len(results[key]) != number:
                raise RoomFileError(
                    f"the room {path} has {number} points, but its {key} has {len(results[key])} "
                    "rows"
                )
        return results


def _vectors(value: Any, key: str, path: str) -> np.ndarray:
    """(N, 3) float32."""
    array = np.asarray(value)
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "fiu":
        raise RoomFileError(
            f"the room {path} has {key} of shape {array.shape} and type {array.dtype}; it must be "
            "numbers (N, 3)"
        )
    if not len(array):
        raise RoomFileError(f"the room {path} has no points; take the file away")
    finite = np.isfinite(array).all(1)
    if not finite.all():
        raise RoomFileError(
            f"the room {path} has NaN or infinite {key} in {int((~finite).sum())} of {len(array)} "
            f"rows, the first is row {int(finite.argmin())}"
        )
    if key == "coord" and np.abs(array).max() > _FARTHEST:
        raise RoomFileError(
            f"the room {path} lies up to {np.abs(array).max():.3g} m from the origin, where "
            "float32 no longer keeps a millimetre; subtract the mean of its coordinates"
        )
    return array.astype(np.float32)


def _labels(value: Any, key: str, path: str) -> np.ndarray:
    """(N) int64."""
    array = np.asarray(value)
    flat = array.reshape(-1)
    if array.ndim not in (1, 2) or flat.shape[0] != len(array) or flat.dtype.kind not in "fiub":
        raise RoomFileError(
            f"the room {path} has {key} of shape {array.shape} and type {array.dtype}; it must be "
            "integers (N, 1) or (N)"
        )
    labels = flat.astype(np.int64)
    if flat.dtype.kind == "f" and not (labels == flat).all():
        raise RoomFileError(f"the room {path} has {key} that are no integers")
    return labels


def _check_classes(labels: np.ndarray, num_classes: int, ignored: int, key: str, path: str) -> None:
    wrong = (labels != ignored) & ((labels < 0) | (labels >= num_classes))
    if wrong.any():
        raise RoomFileError(
            f"the room {path} has {key} {np.unique(labels[wrong])[:10].tolist()}; classes are 0 to "
            f"{num_classes - 1}, and {ignored} (the data set's ignore_index) for points to be "
            "ignored"
        )
