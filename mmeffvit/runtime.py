"""Run an exported model: needs numpy and onnxruntime (or OpenVINO), and no other module.

This file is also the script that ``tools/export.py --script`` puts beside a model: it is copied as
it is, and then runs alone.

    python model.py IMAGE...                 # the model is model.onnx
    python runtime.py --model F.onnx IMAGE   # IMAGE: a picture, or a .npy of (H, W, C) uint8, BGR

H W image, C channels, K boxes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

BACKENDS = ("onnxruntime", "openvino")


class OnnxModel:
    """A file of ``tools/export.py``, and what is around it: resizing, scaling back, class names.

    Args:
        path: The .onnx file.
        backend: ``'onnxruntime'`` or ``'openvino'``.
        threads: Of the processor; 0 leaves it to the backend.

    Attributes:
        kind: ``'boxes'``, ``'label map'`` or ``'classes'``.
        classes: Their names; empty if the file has none.
        metadata: All that the file says of itself.

    Raises:
        ValueError: The backend is unknown, or the file is not from ``tools/export.py``.
    """

    def __init__(
        self, path: str | os.PathLike, backend: str = "onnxruntime", threads: int = 0
    ) -> None:
        if backend not in BACKENDS:
            raise ValueError(f"backend is {backend!r}; {' and '.join(BACKENDS)} are known")
        runner = _OnnxRuntime if backend == "onnxruntime" else _OpenVino
        self._runner = runner(os.fspath(path), threads)
        stored = self._runner.metadata()
        self.metadata: dict[str, Any] = {
            name.partition(".")[2]: json.loads(value)
            for name, value in stored.items()
            if name.startswith("mmeffvit.")
        }
        if "kind" not in self.metadata:
            raise ValueError(
                f"{path} does not say what it finds; tools/export.py writes files that do"
            )
        self.kind: str = self.metadata["kind"]
        self.classes: list[str] = list(self.metadata.get("classes") or ())

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The graph alone.

        Args:
            images: (B, C, H, W), uint8 if the graph normalises, else float32.

        Returns:
            Its outputs by name.
        """
        return self._runner.run(np.ascontiguousarray(images))

    def __call__(self, image: np.ndarray, score_thr: float = 0.05) -> dict[str, Any]:
        """Predict on one image.

        Args:
            image: (H, W, C) uint8, channels as OpenCV reads them: blue, green, red.
            score_thr: Boxes that score less are left out.

        Returns:
            Of a detector ``boxes`` (K, 4) in pixels of the image, ``scores``, ``labels``, ``names``
            and, if it has them, ``masks`` (K, H, W) bool; of a segmentor ``label_map`` (H, W); of a
            classifier ``scores``, ``label``, ``name``.

        Raises:
            ValueError: The image is of another kind, or the graph takes prepared tensors.
        """
        prepared = self.prepare(image)
        outputs = self.run(prepared.transpose(2, 0, 1)[None])
        return self.interpret(outputs, image.shape[:2], prepared.shape[:2], score_thr)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """An image (H, W, C) uint8 as the graph takes it: resized or cropped as the config does.

        Raises:
            ValueError: The image is of another kind, or the graph takes prepared tensors.
        """
        if self.metadata["inside"] == "network":
            raise ValueError(
                "this file takes what its network takes: call run() with prepared float32 tensors, "
                "or export without --inside network"
            )
        if image.ndim != 3 or image.dtype != np.uint8:
            raise ValueError(f"an image is (H, W, C) of uint8; got {image.shape} of {image.dtype}")
        for step in self.metadata.get("steps") or ():
            image = _STEPS[step["type"]](image, step)
        return image

    def interpret(
        self,
        outputs: dict[str, np.ndarray],
        size: tuple[int, int],
        prepared: tuple[int, int],
        score_thr: float = 0.05,
    ) -> dict[str, Any]:
        """What calling gives, from the outputs of `run` for one image.

        Args:
            outputs: Of a batch of one.
            size: Rows and columns of the image.
            prepared: The same of what `prepare` made of it.
            score_thr: Boxes that score less are left out.
        """
        if self.kind == "classes":
            return self._classes(outputs)
        if self.kind == "label map":
            return {"label_map": nearest(outputs["label_map"][0], size)}
        return self._boxes(outputs, size, prepared, score_thr)

    def _name(self, label: int) -> str:
        return self.classes[label] if label < len(self.classes) else str(label)

    def _classes(self, outputs: dict[str, np.ndarray]) -> dict[str, Any]:
        scores = outputs["scores"][0]
        label = int(scores.argmax())
        return {"scores": scores, "label": label, "name": self._name(label)}

    def _boxes(
        self,
        outputs: dict[str, np.ndarray],
        size: tuple[int, int],
        prepared: tuple[int, int],
        score_thr: float,
    ) -> dict[str, Any]:
        count = int(outputs["counts"][0])
        chosen = np.flatnonzero(outputs["scores"][0, :count] >= score_thr)
        scale = np.array([prepared[1] / size[1], prepared[0] / size[0]] * 2, np.float32)
        boxes = outputs["boxes"][0, chosen] / scale
        labels = outputs["labels"][0, chosen]
        found: dict[str, Any] = {
            "boxes": boxes,
            "scores": outputs["scores"][0, chosen],
            "labels": labels,
            "names": [self._name(int(label)) for label in labels],
        }
        if "masks" in outputs:
            threshold = self.metadata.get("mask_threshold", 0.5)
            found["masks"] = np.zeros((len(chosen), *size), bool)
            for place, mask, box in zip(found["masks"], outputs["masks"][0, chosen], boxes):
                place[:] = in_image(mask, box, size, threshold)
        return found


# -- images ----------------------------------------------------------------------------------------


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image (H, W, C) uint8 at another size; as OpenCV's INTER_LINEAR, to a grey level."""
    rows, columns = (_neighbours(*sides) for sides in zip((height, width), image.shape[:2]))
    first, second, share = rows
    x = image.astype(np.float32)
    x = x[first] * (1 - share)[:, None, None] + x[second] * share[:, None, None]
    first, second, share = columns
    x = x[:, first] * (1 - share)[:, None] + x[:, second] * share[:, None]
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def _neighbours(new: int, old: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two pixels beside every new one on an axis, and the share of the second."""
    place = ((np.arange(new) + 0.5) * (old / new) - 0.5).clip(0, old - 1)
    first = np.floor(place).astype(int)
    return first, np.minimum(first + 1, old - 1), (place - first).astype(np.float32)


def nearest(label_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label map at another size."""
    if label_map.shape == tuple(size):
        return label_map
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * (old / new)).astype(int), old - 1)
        for new, old in zip(size, label_map.shape)
    )
    return label_map[rows[:, None], columns]


def paste(mask: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask (M, M) of probabilities in its box, in an image of zeros (H, W).

    Bilinear, and zero outside of the mask, as in Mask R-CNN (arXiv:1703.06870, section 3.1).
    """
    x1, y1, x2, y2 = (float(side) for side in box)
    return (
        _spread(y1, y2, size[0], mask.shape[0]) @ mask @ _spread(x1, x2, size[1], mask.shape[1]).T
    )


def in_image(
    mask: np.ndarray, box: np.ndarray, size: tuple[int, int], threshold: float
) -> np.ndarray:
    """A mask as it comes out of a graph as pixels of an image, (H, W) bool.

    Args:
        mask: Probabilities (M, M) in its box, or bool (H', W') of a whole image.
        box: Its corners, in pixels of the image.
        size: H and W.
        threshold: Of probabilities.
    """
    if mask.dtype == bool:
        return nearest(mask, size)
    return paste(mask, box, size) >= threshold


def _spread(low: float, high: float, pixels: int, cells: int) -> np.ndarray:
    """How much of every cell of a mask is in every pixel of a side, (pixels, cells)."""
    extent = high - low
    if extent <= 0:
        return np.zeros((pixels, cells), np.float32)
    place = (np.arange(pixels, dtype=np.float32) + 0.5 - low) / extent * cells - 0.5
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells, dtype=np.float32)))


def _resize(image: np.ndarray, step: dict[str, Any]) -> np.ndarray:
    height, width = image.shape[:2]
    new_width, new_height = step["scale"]
    if step["keep_ratio"]:
        long, short = max(step["scale"]), min(step["scale"])
        factor = min(long / max(height, width), short / min(height, width))
        new_height, new_width = int(height * factor + 0.5), int(width * factor + 0.5)
    return bilinear(image, new_height, new_width)


def _resize_edge(image: np.ndarray, step: dict[str, Any]) -> np.ndarray:
    height, width = image.shape[:2]
    edge, scale = step["edge"], step["scale"]
    by_width = edge == "width" or ((edge == "short") == (width <= height) and edge != "height")
    if by_width:
        return bilinear(image, int(scale * height / width), scale)
    return bilinear(image, scale, int(scale * width / height))


def _center_crop(image: np.ndarray, step: dict[str, Any]) -> np.ndarray:
    height, width = (min(*sides) for sides in zip(image.shape[:2], step["crop_size"]))
    top = round((image.shape[0] - height) / 2)
    left = round((image.shape[1] - width) / 2)
    return image[top : top + height, left : left + width]


#: steps of a test pipeline that are taken before the graph
_STEPS = {"Resize": _resize, "ResizeEdge": _resize_edge, "CenterCrop": _center_crop}


# -- backends --------------------------------------------------------------------------------------


class _OnnxRuntime:
    def __init__(self, path: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            path, options, providers=onnxruntime.get_available_providers()
        )
        self.names = [output.name for output in self.session.get_outputs()]

    def metadata(self) -> dict[str, str]:
        return self.session.get_modelmeta().custom_metadata_map

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.names, self.session.run(self.names, {"images": images})))


class _OpenVino:
    def __init__(self, path: str, threads: int) -> None:
        import openvino

        core = openvino.Core()
        self.model = core.read_model(path)
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        self.compiled = core.compile_model(self.model, "CPU", settings)

    def metadata(self) -> dict[str, str]:
        stored = self.model.get_rt_info(["framework"]).value
        return {str(name): _plain(value) for name, value in stored.items()}

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        results = self.compiled({"images": images})
        return {output.any_name: results[output] for output in self.compiled.outputs}


def _plain(value: Any) -> str:
    return str(getattr(value, "value", value))


# -- command line ----------------------------------------------------------------------------------


def read_image(path: str | os.PathLike) -> np.ndarray:
    """An image (H, W, 3) uint8, blue, green, red: a .npy file, or what Pillow or OpenCV read.

    Raises:
        ImportError: It is a picture, and neither Pillow nor OpenCV is installed.
        ValueError: It cannot be read.
    """
    if Path(path).suffix == ".npy":
        return np.load(path, allow_pickle=False)
    try:
        from PIL import Image

        with Image.open(path) as picture:
            return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1])
    except ImportError:
        pass
    try:
        import cv2
    except ImportError:
        raise ImportError(
            f"{path} is read by Pillow or OpenCV, and neither is installed: pip install pillow, or "
            "save the image as .npy, (H, W, 3) uint8, blue, green, red"
        ) from None
    image = cv2.imread(os.fspath(path))
    if image is None:
        raise ValueError(f"{path} is no image that OpenCV reads")
    return image


def _as_json(found: dict[str, Any]) -> dict[str, Any]:
    """For printing: masks and label maps as what they cover."""
    if "label_map" in found:
        labels, pixels = np.unique(found.pop("label_map"), return_counts=True)
        return {"pixels": dict(zip(map(str, labels.tolist()), pixels.tolist()))}
    if "masks" in found:
        found["mask_pixels"] = found.pop("masks").sum((1, 2))
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(__file__).with_suffix(".onnx")
    parser.add_argument("images", nargs="+", help="pictures, or .npy files")
    parser.add_argument("--model", default=beside, help=f"the .onnx file (default: {beside.name})")
    parser.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0])
    parser.add_argument("--score-thr", type=float, default=0.3, help="of boxes (default: 0.3)")
    args = parser.parse_args(arguments)
    model = OnnxModel(args.model, args.backend)
    for path in args.images:
        found = _as_json(model(read_image(path), args.score_thr))
        print(json.dumps({"image": str(path), **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
