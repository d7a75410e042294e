"""Predicting on images that lie on disk, with the test pipeline and the test step of a config."""

import copy
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope

from mmeffvit.checkpoint import read_checkpoint
from mmeffvit.configs import type_name
from mmeffvit.datasets.transforms import UnreadableImageError
from mmeffvit.engine.data import iter_datasets
from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.evaluation import check_weights
from mmeffvit.engine.predictions import Annotations, read_annotations
from mmeffvit.visualization.pixels import keep_pixels

#: first steps of pipelines of point clouds
POINT_LOADERS = ("LoadPointsFromFile", "LoadRoomFromFile")
_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def find_images(arguments: Sequence[str], outside: str | os.PathLike | None = None) -> list[Path]:
    """Images named on a command line.

    Args:
        arguments: Files, folders, which are searched with all that is below them, and patterns such
            as ``'photos/*.jpg'``.
        outside: A folder that is left out when another is searched, as results of an earlier run
            may lie in it.

    Returns:
        Each image once, in the order of the arguments; those of a folder or a pattern sorted.

    Raises:
        LaunchError: An argument names no image.
    """
    expected = f"with files that end with {', '.join(_SUFFIXES)}"
    return find_inputs(arguments, _images_below, "image", expected, outside)


def _images_below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)


def find_inputs(
    arguments: Sequence[str],
    search: Callable[[Path], list[Path]],
    noun: str,
    expected: str,
    outside: str | os.PathLike | None = None,
) -> list[Path]:
    """What is predicted on, named on a command line; :func:`find_images` says more.

    Args:
        arguments: Files, folders and patterns.
        search: Lists what is in a folder.
        noun: What is looked for.
        expected: What folders must be like, for the error.
        outside: A folder that is left out.

    Raises:
        LaunchError: An argument names nothing.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        path = Path(argument)
        if path.exists():
            matches = [path]
        else:
            matches = list(map(Path, sorted(glob.glob(argument, recursive=True))))
        below = {p: search(p) for p in matches if p.is_dir()}
        if outside is not None:
            results = Path(outside).resolve()
            below = {
                folder: [p for p in paths if results not in p.resolve().parents]
                for folder, paths in below.items()
            }
        inputs = [p for match in matches for p in below.get(match, [match])]
        if not inputs:
            raise LaunchError(
                f"There is no {noun} at {argument!r} (looked for at {path.resolve()}): name files, "
                f"patterns, or folders {expected}."
            )
        found.update(dict.fromkeys(inputs))
    return list(found)


class RefusedImageError(RuntimeError):
    """An image that was read and that the network does not take, being too small, or too large."""


def test_dataset(cfg: Config) -> dict[str, Any]:
    """The data set that a config tests on, the first of several, in the scope of the config.

    Raises:
        LaunchError: There is none with a pipeline.
    """
    init_default_scope(cfg.get("default_scope") or "mmengine")
    datasets = list(iter_datasets((cfg.get("test_dataloader") or {}).get("dataset")))
    if not datasets or not datasets[0].get("pipeline"):
        raise LaunchError(
            "The config has no test_dataloader.dataset.pipeline, by which inputs are prepared."
        )
    return datasets[0]


def load_model(cfg: Config, checkpoint: str, device: str) -> torch.nn.Module:
    """The model of a config with all its weights, in evaluation mode.

    Raises:
        CheckpointError: The checkpoint cannot be read, or belongs to another model.
    """
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    check_weights(model, checkpoint)
    model.cfg = cfg
    return model.to(device).eval()


class Predictor:
    """A trained model, and the way to it from an image file.

    Args:
        cfg: Of mmdet, mmseg or mmpretrain.
        checkpoint: A .pth or .safetensors file, read without running any code in it; all parameters
            of the model must be in it.
        device: Such as ``'cpu'`` or ``'cuda:0'``.

    Attributes:
        metainfo: What the labels mean (``classes``, ``palette``, ``reduce_zero_label``), from the
            checkpoint, or from the data set that the config tests on.
        annotations: What the annotation file of that data set calls categories and images, if it
            is there.

    Raises:
        LaunchError: The config tests on nothing or on point clouds, or names no classes.
        CheckpointError: The checkpoint cannot be read, or belongs to another model.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str = "cpu") -> None:
        dataset = test_dataset(cfg)
        if any(type_name(step) in POINT_LOADERS for step in dataset["pipeline"]):
            raise LaunchError(
                "The config reads point clouds, and this predicts on images: use "
                "mmeffvit.engine.clouds.CloudPredictor, or tools/predict.py, which takes both."
            )
        self.pipeline = Compose(_pipeline_for_files(dataset["pipeline"]))
        self._num_readers = 1
        self.model = load_model(cfg, checkpoint, device)
        self.metainfo = read_metainfo(checkpoint, dataset)
        self.annotations: Annotations | None = read_annotations(dataset, self.metainfo["classes"])

    def load(self, path: str | os.PathLike, index: int = 0) -> dict[str, Any]:
        """Prepare an image.

        Args:
            path: The file.
            index: Goes into the sample as ``img_id``.

        Returns:
            The sample for :meth:`predict`, and under ``pixels`` the image as it was loaded.

        Raises:
            UnreadableImageError: The message names the file.
        """
        loaded = self.read(path, index)
        return {**self.prepare(loaded), "pixels": loaded["img"]}

    def read(self, path: str | os.PathLike, index: int = 0) -> dict[str, Any]:
        """Read an image by the first steps of the pipeline: ``img``, and what is known of it.

        Args:
            path: The file.
            index: As of :meth:`load`.

        Raises:
            UnreadableImageError: The message names the file.
        """
        return self._transform({"img_path": str(path), "img_id": index}, reading=True)

    def prepare(self, loaded: dict[str, Any]) -> dict[str, Any]:
        """Prepare what :meth:`read` gives, by the other steps of the pipeline.

        Raises:
            UnreadableImageError: The message names the file.
        """
        return self._transform(dict(loaded), reading=False)

    def _transform(self, results: dict[str, Any], reading: bool) -> dict[str, Any]:
        path = results["img_path"]
        steps = self.pipeline.transforms
        try:
            for step in steps if reading else steps[self._num_readers :]:
                results = step(results)
                if results is None:
                    raise ValueError(f"{type(step).__name__} of the test pipeline drops it")
                if reading and "img" in results:
                    self._num_readers = steps.index(step) + 1
                    return results
        except UnreadableImageError:
            raise
        except Exception as error:
            raise UnreadableImageError(
                f"cannot prepare the image {path}: {type(error).__name__}: {error}"
            ) from error
        if reading:
            raise LaunchError("No step of the test pipeline reads the image (LoadImageFromFile).")
        return results

    @torch.no_grad()
    def predict(self, samples: Sequence[dict[str, Any]]) -> list:
        """Predictions on prepared images of one size, on the CPU, in the toolbox's data samples."""
        batch = {
            "inputs": [sample["inputs"] for sample in samples],
            "data_samples": [sample["data_samples"] for sample in samples],
        }
        results = [result.cpu() for result in self.model.test_step(batch)]
        for result, sample in zip(results, samples):
            if sample.get("pixels") is not None:
                keep_pixels(result, sample["pixels"])
        return results

    def predict_or_refuse(self, path: str | os.PathLike, samples: Sequence[dict[str, Any]]) -> list:
        """As :meth:`predict`, with one kind of error, whatever the network says.

        Args:
            path: That the error names.
            samples: Of this file.

        Raises:
            RefusedImageError: The network does not take the image.
        """
        try:
            return self.predict(samples)
        except Exception as error:
            height, width = samples[0]["inputs"].shape[-2:]
            reason = (str(error).strip().splitlines() or [""])[0]
            raise RefusedImageError(
                f"the network does not take the image {path} ({width} x {height} pixels "
                f"after preparation): {type(error).__name__}: {reason}"
            ) from error

    def run(
        self, paths: Iterable[str | os.PathLike], batch_size: int = 1
    ) -> Iterator[tuple[Path, Any]]:
        """Predict on many images.

        Images that follow one another share a batch if they have one size after preparation, so
        that none is padded, and no prediction depends on what else is in the batch.

        Args:
            paths: Image files.
            batch_size: Images at once, at most.

        Yields:
            Every path, in order, with its data sample, or the UnreadableImageError or
            RefusedImageError that it raised.
        """
        waiting: list[tuple[Path, dict]] = []
        for index, path in enumerate(map(Path, paths)):
            try:
                sample = self.load(path, index)
            except UnreadableImageError as error:
                yield from self._flush(waiting)
                yield path, error
                continue
            if waiting and waiting[0][1]["inputs"].shape != sample["inputs"].shape:
                yield from self._flush(waiting)
            waiting.append((path, sample))
            if len(waiting) == batch_size:
                yield from self._flush(waiting)
        yield from self._flush(waiting)

    def _flush(self, waiting: list[tuple[Path, dict]]) -> Iterator[tuple[Path, Any]]:
        batch = list(waiting)
        waiting.clear()
        if not batch:
            return
        paths, samples = zip(*batch)
        try:
            results = self.predict_or_refuse(paths[0], samples)
        except RefusedImageError as error:
            if len(batch) > 1:  # which one it is shows one by one
                for one in batch:
                    yield from self._flush([one])
                return
            results = [error]
        yield from zip(paths, results)


def _pipeline_for_files(pipeline: Sequence[dict]) -> list[dict]:
    """A test pipeline without annotations, whose loader names what it cannot read."""
    steps = []
    for step in copy.deepcopy(list(pipeline)):
        kind = type_name(step)
        if "Annotations" in kind:
            continue
        if kind == "LoadImageFromFile":
            step["type"] = "mmeffvit.LoadImageFromFile"
        steps.append(step)
    return steps


def read_metainfo(checkpoint: str, dataset: dict) -> dict[str, Any]:
    """What labels mean, from the checkpoint, or from the data set.

    Raises:
        LaunchError: Neither names the classes.
    """
    stored = read_checkpoint(checkpoint).get("meta") or {}
    metainfo = {str(k).lower(): v for k, v in (stored.get("dataset_meta") or {}).items()}
    if not metainfo.get("classes") or not metainfo.get("palette"):
        # what the data set knows of itself, without reading any file
        known = DATASETS.build({**dataset, "pipeline": [], "lazy_init": True}).metainfo
        metainfo = {**known, **{k: v for k, v in metainfo.items() if v is not None}}
    if not metainfo.get("classes"):
        raise LaunchError(
            "Neither the checkpoint nor the config's test data set names the classes; set "
            "test_dataloader.dataset.metainfo=dict(classes=(...))."
        )
    return metainfo
