"""Predicting on point clouds that lie on disk: rooms and LiDAR sweeps."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate

from mmeffvit.configs import type_name
from mmeffvit.datasets.points.rooms.files import find_rooms
from mmeffvit.datasets.points.sweeps.kitti import read_calibration
from mmeffvit.engine.inference import (
    POINT_LOADERS,
    RefusedImageError,
    find_inputs,
    load_model,
    read_metainfo,
    test_dataset,
)

_ROOM_LOADER = "LoadRoomFromFile"


def reads_clouds(cfg: Config) -> bool:
    """Whether a config tests on point clouds."""
    return any(type_name(step) in POINT_LOADERS for step in test_dataset(cfg)["pipeline"])


def find_clouds(
    cfg: Config, arguments: Sequence[str], outside: str | os.PathLike | None = None
) -> list[Path]:
    """Rooms or sweeps named on a command line, as the config has it.

    Args:
        cfg: Tests on clouds.
        arguments: Rooms (``.pth`` files, or folders with a ``coord.npy``) or sweeps (``.bin``
            files), folders, which are searched with all that is below them, and patterns.
        outside: As of :func:`mmeffvit.engine.inference.find_images`.

    Returns:
        Each cloud once, in the order of the arguments; those of a folder or a pattern sorted.

    Raises:
        LaunchError: An argument names no cloud.
    """
    if _reads_rooms(cfg):
        what = "room", "that hold rooms: .pth files, or folders with coord.npy, color.npy and so on"
        return find_inputs(arguments, _rooms_below, *what, outside)
    what = "sweep", "with files that end with .bin"
    return find_inputs(arguments, lambda folder: sorted(folder.rglob("*.bin")), *what, outside)


def _reads_rooms(cfg: Config) -> bool:
    return any(type_name(step) == _ROOM_LOADER for step in test_dataset(cfg)["pipeline"])


def _rooms_below(folder: Path) -> list[Path]:
    if (folder / "coord.npy").is_file():
        return [folder]
    folders = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
    return [room for place in folders for room in find_rooms(place)]


class UnreadableCloudError(RuntimeError):
    """A cloud is missing, broken, or has not what the pipeline needs; the message names it."""


class RefusedCloudError(RefusedImageError):
    """A cloud that was read and that the network does not take."""


class CloudPredictor:
    """A trained model of point clouds, and the way to it from a file.

    Clouds are prepared by the config's test pipeline, as in a test without labels, and go through
    the model one by one. What a file alone does not say is done without: earlier sweeps, and, where
    there is no calibration beside a sweep (``../calib/NAME.txt``, as KITTI has it), the restriction
    to what the camera sees.

    Args:
        cfg: Of mmeffvit, with a test data set of rooms or sweeps.
        checkpoint: As of :class:`mmeffvit.engine.inference.Predictor`.
        device: Such as ``'cpu'`` or ``'cuda:0'``.
        warn: Gets a sentence about what is done without, once.

    Attributes:
        metainfo: ``classes``, and ``palette`` if there is one, from the checkpoint or the config.

    Raises:
        LaunchError: The config names no classes.
        CheckpointError: The checkpoint cannot be read, or belongs to another model.
    """

    def __init__(
        self,
        cfg: Config,
        checkpoint: str,
        device: str = "cpu",
        warn: Callable[[str], object] = lambda text: None,
    ) -> None:
        dataset = test_dataset(cfg)
        self.pipeline = Compose(list(dataset["pipeline"]))
        self.noun = "room" if _reads_rooms(cfg) else "sweep"
        self.model = load_model(cfg, checkpoint, device)
        self.metainfo = read_metainfo(checkpoint, dataset)
        self._warn: Callable[[str], object] | None = warn

    def load(self, path: str | os.PathLike, index: int = 0) -> dict[str, Any]:
        """Prepare a cloud.

        Args:
            path: The file, or the folder of a room.
            index: Goes into the sample as ``sample_idx``.

        Returns:
            The sample for the model. Its data sample has the points as they were read: ``coord``
            (N, 3) and, if there are any, ``color`` (N, 3).

        Raises:
            UnreadableCloudError: The message names the file.
        """
        try:
            return self._prepare(self._info(Path(path), index))
        except Exception as error:
            raise UnreadableCloudError(
                f"cannot prepare the {self.noun} {path}: {type(error).__name__}: {error}"
            ) from error

    def _info(self, path: Path, index: int) -> dict[str, Any]:
        info: dict[str, Any] = {"lidar_path": str(path), "sample_idx": index}
        if self.noun == "room":
            return {**info, "semantic_key": None, "num_classes": len(self.metainfo["classes"])}
        calibration = path.parent.parent / "calib" / f"{path.stem}.txt"
        if calibration.is_file():
            info["lidar2img"] = read_calibration(str(calibration))["lidar2img"]
        return {**info, "lidar_sweeps": [], "ego2global": np.eye(4)}

    def _prepare(self, results: dict[str, Any]) -> dict[str, Any]:
        read: dict[str, np.ndarray] = {}
        for step in self.pipeline.transforms:
            if type(step).__name__ == "CameraViewFilter" and "lidar2img" not in results:
                self._warn_once(
                    f"{results['lidar_path']} has no calibration beside it (../calib/NAME.txt): "
                    "all its points are used, though the config trains on what the camera sees"
                )
                continue
            results = step(results)
            if results is None:
                raise ValueError(f"{type(step).__name__} of the test pipeline drops it")
            if not read:
                read = {key: results[key] for key in ("coord", "color") if key in results}
        results["data_samples"].set_metainfo(read)
        return results

    def _warn_once(self, text: str) -> None:
        if self._warn is not None:
            self._warn(text)
        self._warn = None

    @torch.no_grad()
    def predict(self, sample: dict[str, Any]) -> Any:
        """The prediction on a prepared cloud: a data sample on the CPU, with its ``points``.

        Raises:
            RefusedCloudError: The network does not take the cloud.
        """
        path = sample["data_samples"].lidar_path
        try:
            (result,) = self.model.test_step(pseudo_collate([sample]))
        except Exception as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            raise RefusedCloudError(
                f"the network does not take the {self.noun} {path} "
                f"({len(sample['inputs']['points'])} points after preparation): "
                f"{type(error).__name__}: {reason}"
            ) from error
        result = result.cpu()
        result.set_metainfo({"points": sample["inputs"]["points"].numpy()})
        return result

    def run(self, paths: Iterable[str | os.PathLike]) -> Iterator[tuple[Path, Any]]:
        """Predict on many clouds, one after the other.

        Yields:
            Every path, in order, with its data sample, or the UnreadableCloudError or
            RefusedCloudError that it raised.
        """
        for index, path in enumerate(map(Path, paths)):
            try:
                yield path, self.predict(self.load(path, index))
            except (UnreadableCloudError, RefusedCloudError) as error:
                yield path, error
