"""The images of the digits data, whatever layout they are written in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmeffvit.demo_data.digits import scenes

#: see :func:`load_scans`
Scans = tuple[np.ndarray, np.ndarray, np.ndarray]

DIGITS_METAINFO = {
    "classes": tuple("0123456789"),
    "palette": [
        (230, 57, 70),
        (29, 155, 240),
        (46, 184, 92),
        (255, 176, 0),
        (155, 93, 229),
        (0, 194, 184),
        (241, 91, 181),
        (255, 120, 40),
        (120, 144, 40),
        (98, 114, 255),
    ],
}

NUM_TRAIN_SCANS = 1438
_EMPTY_EVERY, _CROWD_EVERY = 25, 12
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95)


def load_scans(split: str) -> Scans:
    """The scans of a split, ``'train'`` or ``'val'``.

    Returns:
        Ink (N, 8, 8) from 0 to 1, the digit of each (N,), and its index in scikit-learn's set (N,).
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits data is made from scikit-learn's scans; run: pip install scikit-learn"
        ) from error
    data = load_digits()
    ids = np.arange(len(data.images))
    ids = ids[:NUM_TRAIN_SCANS] if split == "train" else ids[NUM_TRAIN_SCANS:]
    return (data.images[ids] / 16).astype(np.float32), data.target[ids], ids


def draw_image(
    config: dict,
    split: str,
    scans: Scans,
    index: int,
    ground: Callable[[int, int], np.ndarray] | None = None,
) -> tuple[np.ndarray, list[scenes.Instance]]:
    """Draw one image of a split; it depends on nothing but the arguments.

    Args:
        config: With ``seed``, ``image_size`` and ``max_digits``, maybe ``digit_sizes`` and
            ``half_plain``, see :func:`mmeffvit.demo_data.digits.ensure_digits`.
        split: ``'train'`` or ``'val'``.
        scans: Of :func:`load_scans`.
        index: Number of the image in its split.
        ground: Called with a height and a width, draws what lies under the digits.

    Returns:
        The image (H, W, 3), uint8, in BGR order, and what is in it.
    """
    rng = np.random.default_rng([config["seed"], ("train", "val").index(split), index])
    height, width = config["image_size"]
    if height != width and rng.random() < 0.25:
        height, width = width, height
    is_empty = index % _EMPTY_EVERY == _EMPTY_EVERY // 4
    has_crowd = index % _CROWD_EVERY == _CROWD_EVERY // 4 and not is_empty
    max_digits = 0 if is_empty else config["max_digits"]
    return scenes.draw_scene(
        rng,
        *scans,
        height,
        width,
        max_digits,
        with_crowd=has_crowd,
        digit_sizes=config.get("digit_sizes", scenes.DIGIT_SIZES),
        plain=config.get("half_plain", False) and split == "train" and index % 2 == 1,
        ground=None if ground is None else ground(height, width),
    )


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image (BGR, or a map of labels) as JPEG or PNG, as the suffix says."""
    jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    ok, encoded = cv2.imencode(path.suffix, image, _JPEG if jpeg else ())
    if not ok:
        raise RuntimeError("OpenCV cannot encode images here; install opencv-python-headless")
    path.write_bytes(encoded.tobytes())


def draw_split(
    split: str, config: dict, draw: Callable[[Scans, int], Any], run: Callable[..., list]
) -> list:
    """What `draw(scans, index)` returns for every image of a split, several drawn at once.

    Args:
        split: ``'train'`` or ``'val'``.
        config: With ``num_train`` and ``num_val``.
        draw: What it does depends on its arguments alone.
        run: Of :func:`mmeffvit.demo_data.folders.ensure_data`.
    """
    scans = load_scans(split)
    progress = f"digits data: {split} {{done}}/{{number}} images"
    return run(lambda index: draw(scans, index), config[f"num_{split}"], progress)
