"""Pictures of label maps: over an image, beside the truth, and many on a contact sheet."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from mmeffvit.visualization.sheet import (
    INK,
    OUTLINE,
    PALE,
    PAPER,
    Page,
    compose_sheet,
    draw_legend,
    fit,
    font,
    hatching,
    legend_height,
)

UNLABELLED = 255
_OPACITY = 0.62
_TITLE, _PAD, _LEAST_WIDTH = 24, 8, 220


@dataclasses.dataclass
class LabelledExample:
    """One line of a contact sheet of label maps.

    Attributes:
        image: (H, W, 3), uint8, RGB.
        truth: (H, W), the class of each pixel; 255 where there is none.
        prediction: (H, W), likewise.
        name: For the caption, such as the file name.
    """

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    name: str = ""


def draw_labels(
    image: np.ndarray,
    labels: np.ndarray,
    palette: Sequence[Sequence[int]],
    size: tuple[int, int] | None = None,
) -> Image.Image:
    """Lay a label map over an image in grey, so that a class has one hue wherever it is.

    Args:
        image: (H, W, 3), uint8, RGB.
        labels: (H, W), the class of each pixel; what has no colour in the palette is hatched.
        palette: RGB of each class.
        size: Width and height of the picture; those of the image by default.
    """
    size = size or (image.shape[1], image.shape[0])
    ground = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    labels = _resize_labels(np.asarray(labels), size)
    known = (labels >= 0) & (labels < len(palette))
    colours = np.asarray(palette, np.float32)[np.where(known, labels, 0)]
    opacity = np.full(labels.shape, np.float32(_OPACITY))
    if not known.all():
        colours[~known] = PALE
        opacity[~known] = hatching(labels.shape)[~known]
    canvas = np.asarray(ground.convert("L").convert("RGB"), np.float32)
    canvas = canvas + opacity[..., None] * (colours - canvas)
    edges = np.zeros(labels.shape, bool)
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edges[1:] |= labels[1:] != labels[:-1]
    canvas[edges] = 0.4 * canvas[edges] + 0.6 * np.float32(OUTLINE)
    return Image.fromarray(canvas.round().clip(0, 255).astype(np.uint8))


def draw_label_maps(
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    size: tuple[int, int] | None = None,
) -> Image.Image:
    """Lay each of several label maps over the image, side by side, above a legend of their classes.

    Args:
        image: (H, W, 3), uint8, RGB.
        maps: Label maps (H, W) by their titles; a single one stands without its title.
        classes: Names of the classes.
        palette: RGB of each class.
        size: Width and height of each; those of the image by default.
    """
    width, height = size or (image.shape[1], image.shape[0])
    pictures = [draw_labels(image, labels, palette, (width, height)) for labels in maps.values()]
    legend = make_legend(list(maps.values()), classes, palette)
    top = _TITLE if len(maps) > 1 else 0
    total = len(maps) * (width + _PAD) - _PAD
    inner = max(total, _LEAST_WIDTH) - 2 * _PAD
    foot = legend_height(legend, inner) + 2 * _PAD
    sheet = Image.new("RGB", (inner + 2 * _PAD, top + height + foot), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (title, picture) in enumerate(zip(maps, pictures)):
        left = index * (width + _PAD) + (sheet.width - total) // 2
        sheet.paste(picture, (left, top))
        if top:
            middle = (left + width / 2, top / 2)
            draw.text(middle, title, INK, font(14, bold=True), anchor="mm")
    draw_legend(draw, legend, _PAD, top + height + _PAD, inner)
    return sheet


def draw_segmentation_sheet(
    examples: Sequence[LabelledExample],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    title: str = "",
    subtitle: str = "",
    **page: int,
) -> Image.Image:
    """Draw examples, each as image, ground truth and prediction.

    Captions say how many of the labelled pixels are right, and the mean IoU over the classes that
    an image has.

    Args:
        examples: What to draw, in this order, line by line.
        classes: Names of the classes.
        palette: RGB of each class.
        title: In large letters on top.
        subtitle: Under the title.
        **page: ``panel`` and ``columns`` of :class:`mmeffvit.visualization.Page`.

    Returns:
        The sheet, RGB.

    Raises:
        ValueError: There is no example, or a size is not positive.
    """

    def draw_pictures(index: int, room: tuple[int, int]) -> tuple[list[Image.Image], str]:
        example = examples[index]
        image = fit(example.image, room)
        maps = (example.truth, example.prediction)
        pictures = [image, *(draw_labels(example.image, m, palette, image.size) for m in maps)]
        text = verdict(example.truth, example.prediction, len(classes))
        return pictures, f"{example.name}   {text}".strip()

    shown = [m for example in examples for m in (example.truth, example.prediction)]
    return compose_sheet(
        [example.image.shape[:2] for example in examples],
        draw_pictures,
        titles=("Image", "Ground truth", "Prediction"),
        legend=make_legend(shown, classes, palette),
        page=Page(title, subtitle, **page),
    )


def palette_of(metainfo: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    """RGB of each class, from what a data set says; colours by lot, always the same, if nothing."""
    palette, count = metainfo.get("palette"), len(metainfo["classes"])
    if palette is None or isinstance(palette, str) or len(palette) < count:
        palette = np.random.default_rng(0).integers(40, 240, (count, 3)).tolist()
    return palette


def make_legend(
    maps: Sequence[np.ndarray], classes: Sequence[str], palette: Sequence[Sequence[int]]
) -> list[tuple[list[tuple[int, int, int]], str]]:
    """Colours and names of the classes that label maps have."""
    present = sorted({int(label) for labels in maps for label in np.unique(labels)})
    legend = [([tuple(palette[c])], str(classes[c])) for c in present if 0 <= c < len(classes)]
    if any(not 0 <= label < len(classes) for label in present):
        legend.append(([PALE], "hatched: not labelled"))
    return legend


def verdict(truth: np.ndarray, found: np.ndarray, num_classes: int, unit: str = "pixels") -> str:
    """How good predicted classes are, in words; `truth` and `found` are of one shape.

    The mean IoU is that over the classes which `truth` has.
    """
    truth, found = np.asarray(truth), np.asarray(found)
    labelled = truth < num_classes
    if not labelled.any():
        return "nothing labelled"
    truth, found = truth[labelled], found[labelled]
    pairs = [(truth == label, found == label) for label in np.unique(truth)]
    ious = [np.count_nonzero(a & b) / np.count_nonzero(a | b) for a, b in pairs]
    return f"mean IoU {np.mean(ious):.2f} · {100 * np.mean(truth == found):.1f}% of {unit} right"


def _resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Each pixel gets the class that has most of it: smooth edges at any size."""
    if labels.shape == (size[1], size[0]):
        return labels
    present = np.unique(labels)
    best = np.full((size[1], size[0]), -1.0, np.float32)
    resized = np.zeros(best.shape, labels.dtype)
    shrinks = size[0] < labels.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    for label in present:
        share = cv2.resize((labels == label).astype(np.float32), size, interpolation=interpolation)
        resized[share > best] = label
        best = np.maximum(best, share)
    return resized
