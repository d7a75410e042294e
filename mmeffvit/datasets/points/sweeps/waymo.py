"""Waymo Open Dataset after mmdet3d's converter: a ``.bin`` per sweep and a list of them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmeffvit.datasets.points.sweeps.base import BaseSweepDataset
from mmeffvit.files import read_pickle
from mmeffvit.registry import DATASETS


@DATASETS.register_module()
class WaymoSweepDataset(BaseSweepDataset):
    """Sweeps of Waymo, or of anything else in the same form (arXiv 1912.04838).

    Points are (N, 6) float32: x, y, z, intensity, elongation and timestamp. The list is JSON or a
    pickle file of mmdet3d 1.x, ``dict(metainfo, data_list)`` with, for each sweep::

        {"lidar_points": {"lidar_path": "0000000.bin"},
         "ego2global": [[...]],  # 4 x 4, for several sweeps together
         "lidar_sweeps": [       # those before, the latest first
             {"lidar_points": {"lidar_path": ...}, "ego2global": [[...]]}],
         "instances": [
             {"bbox_3d": [x, y, z, dx, dy, dz, yaw],  # z at the bottom
              "bbox_label_3d": 0, "num_lidar_pts": 12}]}

    where ``metainfo["categories"]`` has the number of each class, if not their order here.

    Args:
        ann_file: The list.
        data_prefix: Folders ``pts`` and ``sweeps`` (where not that of ``pts``).
        load_interval: Every n-th sweep is used; 5 for a fifth of the data.
        min_points: Objects with fewer points are not trained on, and ignored in test mode, if the
            list says how many there are: 1 for what Waymo calls level 2, 6 for level 1.
        with_label: False for sweeps without ``instances``, which are tested and not measured.
        lazy_init: As in mmengine's `BaseDataset`.
        **kwargs: Of `BaseSweepDataset`.

    Raises:
        FileNotFoundError: The list is missing.
        ValueError: It is damaged, or lacks something.
    """

    METAINFO: ClassVar[dict] = {
        "classes": ("Car", "Pedestrian", "Cyclist"),
        "palette": [(0, 120, 255), (0, 255, 0), (255, 255, 0)],
    }

    def __init__(
        self,
        ann_file: str = "waymo_infos_train.pkl",
        data_prefix: dict | None = None,
        load_interval: int = 1,
        min_points: int = 1,
        lazy_init: bool = False,
        **kwargs,
    ):
        if load_interval < 1:
            raise ValueError(f"load_interval must be at least 1, got {load_interval}")
        prefix = {"pts": "training/velodyne", **(data_prefix or {})}
        prefix.setdefault("sweeps", prefix["pts"])
        super().__init__(ann_file=ann_file, data_prefix=prefix, lazy_init=True, **kwargs)
        self.load_interval = load_interval
        self.min_points = min_points
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        """Read the list."""
        infos = read_infos(self.ann_file)
        categories = infos.get("metainfo", {}).get("categories")
        if categories is None:
            categories = {name: label for label, name in enumerate(self.METAINFO["classes"])}
        names = {label: name for name, label in categories.items()}
        sweeps = []
        for number, info in enumerate(infos["data_list"]):
            if number % self.load_interval:
                continue
            try:
                sweeps.append(self._sweep(info, names))
            except (KeyError, ValueError, TypeError) as error:
                raise ValueError(
                    f"entry {number} of {self.ann_file} is damaged: {type(error).__name__}: {error}"
                ) from error
        return sweeps

    def _sweep(self, raw: Mapping[str, Any], names: Mapping[int, str]) -> dict:
        info = {"lidar_path": self.path("pts", raw["lidar_points"]["lidar_path"])}
        if "ego2global" in raw:
            info["ego2global"] = _pose(raw["ego2global"])
        if "lidar_sweeps" in raw:
            info["lidar_sweeps"] = [
                {
                    "lidar_path": self.path("sweeps", sweep["lidar_points"]["lidar_path"]),
                    "ego2global": _pose(sweep["ego2global"]),
                }
                for sweep in raw["lidar_sweeps"]
            ]
        if not self.with_label:
            return info
        objects = raw.get("instances") or []
        few = [item.get("num_lidar_pts", self.min_points) < self.min_points for item in objects]
        if not self.test_mode:
            objects = [item for item, sparse in zip(objects, few) if not sparse]
            few = [False] * len(objects)
        boxes = np.array([item["bbox_3d"] for item in objects], np.float32).reshape(-1, 7)
        classes = [names.get(item["bbox_label_3d"], "") for item in objects]
        return self.add_objects(info, classes, boxes, np.array(few, bool))


def _pose(values: Any) -> np.ndarray:
    pose = np.asarray(values, np.float64)
    if pose.shape != (4, 4):
        raise ValueError(f"ego2global must be 4 x 4, got {pose.shape}")
    return pose


def read_infos(path: str | Path) -> dict[str, Any]:
    """A list of samples, ``dict(metainfo=..., data_list=[...])``.

    Args:
        path: ``.json``, or a pickle file, in which nothing but data is let in.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is damaged, holds something else, or more than data.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"the list of sweeps {path} is missing")
    try:
        infos = json.loads(path.read_text()) if path.suffix == ".json" else read_pickle(path)
    except pickle.UnpicklingError as error:
        raise ValueError(f"the list of sweeps {path} cannot be read: {error}") from error
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(
            f"the list of sweeps {path} cannot be read: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(infos, dict) or not isinstance(infos.get("data_list"), list):
        hint = "; lists of mmdet3d before 1.1 are updated by its tools/dataset_converters"
        raise ValueError(
            f"the list of sweeps {path} must be a dict with the list 'data_list', got "
            f"{_describe(infos)}{hint if isinstance(infos, list) else ''}"
        )
    return infos


def _describe(infos: Any) -> str:
    return f"a dict with {sorted(infos)}" if isinstance(infos, dict) else type(infos).__name__
