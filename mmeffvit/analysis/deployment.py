"""A trained model in three forms: PyTorch, its ONNX file, and that file in 8-bit integers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import nn

from mmeffvit.analysis.benchmark import time_in_turn
from mmeffvit.deploy import ExportError, compare, export_model, liken, quantize
from mmeffvit.deploy.agreement import predict
from mmeffvit.deploy.evaluation import build_dataset, evaluate, images_of
from mmeffvit.runtime import OnnxModel, bilinear

FORMS = ("PyTorch", "onnxruntime", "int8")

#: what is measured, in this order, and the columns of a row that it fills
PARTS = {
    "agreement": ("compared", "agreeing", "worst", "mask_pixels"),
    "likeness": ("alike_to_float",),
    "time": ("time_ms", "over_pytorch"),
    "scores": ("scores",),
}

COLUMNS = (
    "model",
    "form",
    "images",
    "sizes",
    "calibration_images",
    "size_mib",
    *(column for columns in PARTS.values() for column in columns),
)
"""``compared`` to ``mask_pixels`` are those of `mmeffvit.deploy.Agreement` with PyTorch,
``alike_to_float`` is the share of what both ONNX files find, ``time_ms`` the median over images of
each image's median, and ``over_pytorch`` the median over images of its ratio to PyTorch's."""

#: sides of the images that are compared, as shares of those in the data set
_FACTORS = (0.6, 1.6)
_LEAST_SIDE = 64


def of_many_sizes(images: Sequence[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """`count` images (H, W, C) uint8, each at a size of its own; height and width vary alone."""
    random = np.random.default_rng(0)
    for index in range(count):
        image = images[index % len(images)]
        factors = random.uniform(*_FACTORS, 2)
        sides = (max(_LEAST_SIDE, int(s * f)) for s, f in zip(image.shape[:2], factors))
        yield bilinear(image, *sides)


class Deployment:
    """What exporting and quantising change in a model.

    Args:
        model: In evaluation mode, on the CPU; of `cfg`.
        cfg: With data sets of training, for calibration, and of testing.
        folder: Of the two files.
        reuse: Whether those that are there are taken.
        count: Images of the test set that are compared, each at a size of its own.
        calibrate: Images of the training set for calibration.
        shape: Traced size.
        threads: Of onnxruntime.

    Raises:
        ExportError: The model has no form for export, or takes one size alone.
    """

    def __init__(
        self,
        model: nn.Module,
        cfg: Config,
        folder: str | os.PathLike,
        *,
        reuse: bool = False,
        count: int = 50,
        calibrate: int = 100,
        shape: tuple[int, int] = (160, 192),
        threads: int = 1,
    ) -> None:
        self.model, self.cfg = model, cfg
        self.name = Path(cfg.filename).stem if cfg.filename else type(model).__name__
        self.calibrate = calibrate
        paths = [Path(folder) / f"{self.name}{end}.onnx" for end in ("", "_int8")]
        if not (reuse and paths[0].exists()):
            done = export_model(model, paths[0], shape=shape)
            if done.varies == "nothing":
                paths[0].unlink()
                raise ExportError(f"sizes of images do not vary: {done.why}")
        if not (reuse and paths[1].exists()):
            quantize(*paths, images_of(build_dataset(cfg, "train_dataloader"), calibrate))
        self.sessions = [OnnxModel(path, threads=threads) for path in paths]
        tested = list(images_of(build_dataset(cfg), count))
        self.images = list(of_many_sizes(tested, count))
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        self.bytes = (weights, *(path.stat().st_size for path in paths))

    def rows(self) -> list[dict[str, str]]:
        """A row for each of the `FORMS`, in which nothing is measured yet."""
        sizes = sorted((image.shape[:2] for image in self.images), key=np.prod)
        shared = {
            "model": self.name,
            "images": str(len(sizes)),
            "sizes": " to ".join("x".join(map(str, size)) for size in (sizes[0], sizes[-1])),
        }
        rows = [
            {**dict.fromkeys(COLUMNS, ""), **shared, "form": form, "size_mib": f"{n / 2**20:.2f}"}
            for form, n in zip(FORMS, self.bytes)
        ]
        rows[2]["calibration_images"] = str(self.calibrate)
        return rows

    def measure(self, part: str) -> Mapping[str, Mapping[str, str]]:
        """One of the `PARTS`: form to columns."""
        return getattr(self, f"_{part}")()

    def _agreement(self) -> dict[str, dict[str, str]]:
        found = compare(self.model, self.sessions[0], self.images)
        counts = {"compared": str(found.compared), "agreeing": str(found.agreeing)}
        worst = {"worst": f"{found.worst:.2e}", "mask_pixels": f"{found.mask_pixels:.6f}"}
        return {"onnxruntime": counts | worst}

    def _likeness(self) -> dict[str, dict[str, str]]:
        found = liken(*self.sessions, self.images, rounds=1)
        return {"int8": {"alike_to_float": f"{found.alike / max(1, found.compared):.4f}"}}

    def _time(self) -> dict[str, dict[str, str]]:
        calls: list[Callable[[np.ndarray], Any]] = [partial(predict, self.model)]
        calls += [partial(_run, session) for session in self.sessions]
        seconds = []
        for image in self.images:
            turns = time_in_turn({f: partial(c, image) for f, c in zip(FORMS, calls)}, rounds=3)
            seconds.append([np.median(turns[form]) for form in FORMS])
        ratios = np.array(seconds) / np.array(seconds)[:, :1]
        middles = zip(FORMS, np.median(seconds, 0), np.median(ratios, 0))
        return {
            form: {"time_ms": f"{time * 1e3:.2f}", "over_pytorch": f"{ratio:.3f}"}
            for form, time, ratio in middles
        }

    def _scores(self) -> dict[str, dict[str, str]]:
        return {
            form: {"scores": _text(evaluate(session, self.cfg).items())}
            for form, session in zip(FORMS[1:], self.sessions)
        }


def _run(session: OnnxModel, image: np.ndarray) -> dict[str, Any]:
    """All that a toolbox does: masks are pasted, too, of what the model itself keeps."""
    outputs = session.run(image.transpose(2, 0, 1)[None])
    return session.interpret(outputs, image.shape[:2], image.shape[:2], score_thr=0.0)


def _text(scores: Iterable[tuple[str, float]]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in scores)
