"""Transforms that read the points of sweeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmeffvit.datasets.points.base import POINT_KEYS, PointTransform, select_points, source_of
from mmeffvit.registry import TRANSFORMS

#: keys of the columns after x, y and z
_COLUMNS = ("intensity", "elongation", "time")


def read_points(path: str, load_dim: int) -> np.ndarray:
    """(N, load_dim) float32 of a ``.bin`` file.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is cut off, or has coordinates that are not finite.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"the points {path} are missing")
    values = np.fromfile(path, np.uint8)
    if values.size % (4 * load_dim):
        raise ValueError(
            f"the points {path} have {values.size} bytes, no multiple of {4 * load_dim}: the file "
            f"is cut off, or its points do not have load_dim={load_dim} columns"
        )
    points = values.view("<f4").astype(np.float32).reshape(-1, load_dim)
    if not np.isfinite(points[:, :3]).all():
        raise ValueError(f"the points {path} have coordinates that are not finite")
    return points


class _Loader(PointTransform):
    """Columns of files to keys."""

    def __init__(
        self,
        load_dim: int = 4,
        use_dim: int = 4,
        norm_intensity: bool = False,
        norm_elongation: bool = False,
    ):
        if not 3 <= use_dim <= load_dim or use_dim > 3 + len(_COLUMNS):
            raise ValueError(
                f"use_dim must be 3 to {3 + len(_COLUMNS)} and at most load_dim, got "
                f"{use_dim} of {load_dim}"
            )
        self.load_dim = load_dim
        self.use_dim = use_dim
        self.norm_intensity = norm_intensity
        self.norm_elongation = norm_elongation

    def load(self, path: str) -> dict[str, np.ndarray]:
        points = read_points(path, self.load_dim)
        loaded = {"coord": points[:, :3].copy()}
        for column, key in enumerate(_COLUMNS[: self.use_dim - 3], 3):
            loaded[key] = points[:, column : column + 1].copy()
        squashed = {"intensity": self.norm_intensity, "elongation": self.norm_elongation}
        for key in loaded:
            if squashed.get(key):
                loaded[key] = np.tanh(loaded[key])
        return loaded


@TRANSFORMS.register_module()
class LoadPointsFromFile(_Loader):
    """Read a ``.bin`` file of float32; mmdet3d's transform of that name.

    Columns are x, y, z (``coord``), ``intensity``, ``elongation`` and ``time``.

    Args:
        load_dim: Columns of the file: 4 for KITTI, 6 for Waymo.
        use_dim: Columns that are used, from the first on.
        norm_intensity: Put the intensity through tanh.
        norm_elongation: The same of the elongation.
    """

    def transform(self, results: dict) -> dict:
        results.update(self.load(results["lidar_path"]))
        return results


@TRANSFORMS.register_module()
class LoadPointsFromMultiSweeps(_Loader):
    """Add the points of earlier sweeps, moved to where they are seen from now.

    ``time`` says how many sweeps ago a point was seen: 0, -1, -2 and so on, in place of the
    elongation. A sweep that has fewer before it gets those that there are.

    Args:
        sweeps_num: Sweeps before this one.
        remove_close: Points of earlier sweeps that were so near to the sensor, in metres in the
            plane, are the vehicle itself, and left out. The authors of FlatFormer take 5 to train
            and 1 to test.
        **kwargs: Of `LoadPointsFromFile`.
    """

    def __init__(self, sweeps_num: int = 2, remove_close: float = 5.0, **kwargs):
        super().__init__(**kwargs)
        self.sweeps_num = sweeps_num
        self.remove_close = remove_close

    def transform(self, results: dict) -> dict:
        missing = [key for key in ("lidar_sweeps", "ego2global") if key not in results]
        if self.sweeps_num and missing:
            raise ValueError(
                f"sweeps_num={self.sweeps_num} needs {' and '.join(missing)} in the list of "
                f"sweeps, which does not have them{source_of(results)}; make the list with "
                "earlier sweeps and poses, or leave LoadPointsFromMultiSweeps out"
            )
        results.pop("elongation", None)
        parts = [{key: results[key] for key in POINT_KEYS if key in results and key != "time"}]
        parts[0]["time"] = np.zeros((len(results["coord"]), 1), np.float32)
        earlier = results["lidar_sweeps"][: self.sweeps_num] if self.sweeps_num else []
        for age, sweep in enumerate(earlier, 1):
            part = self.load(sweep["lidar_path"])
            near = np.square(part["coord"][:, :2]).sum(1) < self.remove_close**2
            part = select_points(part, ~near)
            pose = np.linalg.solve(results["ego2global"], sweep["ego2global"])
            moved = part["coord"].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
            part["coord"] = moved.astype(np.float32)
            part["time"] = np.full((len(moved), 1), -age, np.float32)
            parts.append(part)
        for key in parts[0]:
            results[key] = np.concatenate([part[key] for part in parts])
        return results
