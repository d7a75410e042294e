"""Contact sheets: image, ground truth and prediction side by side, one line per example."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw
from pycocotools import mask as mask_utils

from mmeffvit.ops.points import greedy_matches
from mmeffvit.visualization.masks import CroppedMasks
from mmeffvit.visualization.sheet import (
    OUTLINE,
    PALE,
    Colour,
    Page,
    compose_sheet,
    fit,
    font,
    hatching,
)

if TYPE_CHECKING:
    from typing_extensions import Self

# far apart on light and dark grounds alike, also for most who cannot tell red from green
PALETTE = (
    (255, 196, 0),
    (0, 174, 255),
    (255, 92, 168),
    (64, 224, 120),
    (170, 120, 255),
    (255, 138, 48),
    (0, 220, 210),
    (214, 230, 60),
)
WRONG = (235, 30, 30)
_LEGEND = (
    (PALETTE[:3], "found: in the colour of its true object (IoU ≥ 0.5, same class)"),
    ((WRONG,), "wrong: matches no true object"),
    ((PALE,), "hatched: a crowd, not counted"),
)
# names of more objects would hide the image
_MOST_TAGS = 400
# pictures are drawn this many times as large, and then shrunk
_FINE = 2


class Rows:
    """Arrays of equal length, one row for each thing in an example; a dataclass makes them."""

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, keep: np.ndarray) -> Self:
        """The rows that `keep`, an index or a mask, chooses."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return type(self)(*(None if value is None else value[keep] for value in values))

    def best(self, score_thr: float) -> Self:
        """What scores at least so much, best first; everything where there are no scores."""
        if self.scores is None:
            return self
        order = np.argsort(-self.scores, kind="stable")
        return self.select(order[self.scores[order] >= score_thr])


@dataclasses.dataclass
class Objects(Rows):
    """Objects in one image.

    Attributes:
        boxes: (N, 4), x0, y0, x1, y1 in pixels.
        labels: (N,), indices into the class names.
        masks: (N, H, W), bool, or `CroppedMasks`; without them boxes are drawn.
        scores: (N,), from 0 to 1, of predictions.
        crowd: (N,), bool, regions in which objects are not told apart.
    """

    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | CroppedMasks | None = None
    scores: np.ndarray | None = None
    crowd: np.ndarray | None = None


@dataclasses.dataclass
class Example:
    """One line of a contact sheet.

    Attributes:
        image: (H, W, 3), uint8, RGB.
        truth: What is there.
        prediction: What was found.
        name: For the caption, such as the file name.
    """

    image: np.ndarray
    truth: Objects
    prediction: Objects
    name: str = ""


def draw_contact_sheet(
    examples: Sequence[Example],
    classes: Sequence[str],
    title: str = "",
    subtitle: str = "",
    score_thr: float = 0.5,
    **page: int,
) -> Image.Image:
    """Draw examples, each as image, ground truth and prediction.

    A predicted object has the colour of the true object it matches (same class, IoU of 0.5 or
    more); what matches none is red.

    Args:
        examples: What to draw, in this order, line by line.
        classes: Names of the classes.
        title: In large letters on top.
        subtitle: Under the title.
        score_thr: Predictions below this score are left out.
        **page: ``panel`` and ``columns`` of :class:`mmeffvit.visualization.Page`.

    Returns:
        The sheet, RGB.

    Raises:
        ValueError: There is no example, or a size is not positive.
    """
    return compose_sheet(
        [example.image.shape[:2] for example in examples],
        lambda index, size: draw_example(examples[index], classes, score_thr, size),
        titles=("Image", "Ground truth", f"Prediction (score ≥ {score_thr:g})"),
        legend=_LEGEND,
        page=Page(title, subtitle, **page),
    )


def draw_objects(
    image: np.ndarray,
    objects: Objects,
    classes: Sequence[str],
    size: tuple[int, int] | None = None,
) -> Image.Image:
    """Draw objects into an image, with their classes and scores; neighbours differ in colour.

    Args:
        image: (H, W, 3), uint8, RGB.
        objects: What to draw, the first at the bottom.
        classes: Names of the classes.
        size: Width and height of the picture; those of the image by default.
    """
    size = size or (image.shape[1], image.shape[0])
    ground = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    colours = [PALETTE[index % len(PALETTE)] for index in range(len(objects))]
    crowd = np.zeros(len(objects), bool)
    return _draw_objects(ground, size[0] / image.shape[1], objects, colours, classes, crowd)


def draw_example(
    example: Example, classes: Sequence[str], score_thr: float, size: tuple[int, int]
) -> tuple[list[Image.Image], str]:
    """The three pictures of an example, at most `size` (width, height) large, and its caption."""
    truth, found = example.truth, example.prediction.best(score_thr)
    crowd = np.zeros(len(truth), bool) if truth.crowd is None else truth.crowd.astype(bool)
    matches, ignored = match_objects(found, truth, crowd)

    colours = [PALETTE[index % len(PALETTE)] for index in range(len(truth))]
    found_colours = [
        colours[match] if match >= 0 else (PALE if skip else WRONG)
        for match, skip in zip(matches, ignored)
    ]
    image = fit(example.image, size)
    scale = image.width / example.image.shape[1]
    pictures = [
        image,
        _draw_objects(image, scale, truth, colours, classes, crowd),
        _draw_objects(image, scale, found, found_colours, classes, np.zeros(len(found), bool)),
    ]
    counts = {
        f"of {int((~crowd).sum())} found": int((matches >= 0).sum()),
        "wrong": int(((matches < 0) & ~ignored).sum()),
        "crowd": int(crowd.sum()),
    }
    return pictures, caption(example.name, counts)


def caption(name: str, counts: Mapping[str, int]) -> str:
    """The name of an example and how many there are of what; of the first also if there is none."""
    first = next(iter(counts))
    parts = [f"{number} {what}" for what, number in counts.items() if number or what == first]
    return "   ".join([name, " · ".join(parts)]).strip()


def match_objects(
    found: Objects, truth: Objects, crowd: np.ndarray, threshold: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Give each prediction, best first, the free true object of its class it overlaps most.

    Returns:
        For each prediction the index of the true object or -1, and whether it is to be left out of
        account because half of it lies in a crowd of its class.
    """
    overlap = _overlap(found, truth, crowd)
    same = np.asarray(found.labels)[:, None] == np.asarray(truth.labels)[None]
    matches = assign(np.where(same & ~crowd, overlap, -1.0), threshold)
    ignored = (matches < 0) & (same & crowd & (overlap >= threshold)).any(1)
    return matches, ignored


def assign(overlap: np.ndarray, threshold: float) -> np.ndarray:
    """Give each prediction, in their order, the free true object that it overlaps most.

    Args:
        overlap: (N, M), of N predictions and M true objects; negative where they cannot match.
        threshold: Least overlap of a match.

    Returns:
        For each prediction the index of the true object, or -1.
    """
    overlap = torch.from_numpy(np.asarray(overlap, float))
    rows, columns = (overlap >= threshold).nonzero().unbind(1)
    return greedy_matches(rows, columns, overlap[rows, columns], len(overlap)).numpy()


def _overlap(found: Objects, truth: Objects, crowd: np.ndarray) -> np.ndarray:
    """IoU (N, M), of masks where both have them; of crowds the share of a prediction inside."""
    if not len(found) or not len(truth):
        return np.zeros((len(found), len(truth)))
    with_masks = found.masks is not None and truth.masks is not None
    regions = []
    for objects in (found, truth):
        if with_masks:
            masks = np.asarray(objects.masks, np.uint8).transpose(1, 2, 0)
            regions.append(mask_utils.encode(np.asfortranarray(masks)))
        else:
            boxes = np.asarray(objects.boxes, float)
            regions.append(np.hstack((boxes[:, :2], boxes[:, 2:] - boxes[:, :2])))
    return np.nan_to_num(mask_utils.iou(*regions, crowd.tolist()))


def _draw_objects(
    image: Image.Image,
    scale: float,
    objects: Objects,
    colours: Sequence[Colour],
    classes: Sequence[str],
    crowd: np.ndarray,
) -> Image.Image:
    # drawn at twice the size, for smooth edges; a little paler, so that objects stand out
    size = (image.width * _FINE, image.height * _FINE)
    canvas = np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32) * 0.75 + 32
    for index in range(len(objects)):
        window, inside = _window(objects, index, size, scale * _FINE)
        colour = colours[index] if not crowd[index] else PALE
        _fill(canvas[window], inside, colour, crowd[index])
    canvas = cv2.resize(canvas, image.size, interpolation=cv2.INTER_AREA)
    picture = Image.fromarray(canvas.round().clip(0, 255).astype(np.uint8))
    taken: list[tuple[float, float, float, float]] = []
    order = np.argsort([box[1] for box in objects.boxes], kind="stable")
    for index in order if len(objects) <= _MOST_TAGS else ():
        label = int(objects.labels[index])
        text = str(classes[label])
        if crowd[index]:
            text = f"crowd: {text}"
        elif objects.scores is not None:
            text += f"  {objects.scores[index]:.2f}"
        colour = PALE if crowd[index] else colours[index]
        _draw_tag(picture, text, np.asarray(objects.boxes[index]) * scale, colour, taken)
    return picture


def _region(objects: Objects, index: int, size: tuple[int, int], scale: float) -> np.ndarray:
    """The mask of an object, or the inside of its box, in the picture: bool (h, w)."""
    if objects.masks is not None:
        mask = np.asarray(objects.masks[index], np.float32)
        return cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR) >= 0.5
    region = np.zeros((size[1], size[0]), bool)
    x0, y0, x1, y1 = (round(float(v) * scale) for v in objects.boxes[index])
    region[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    return region


def _window(
    objects: Objects, index: int, size: tuple[int, int], scale: float
) -> tuple[tuple[slice, slice], np.ndarray]:
    """Where an object is in a picture of `size`, with room for its outline, and what is inside."""
    margin = 3 * _FINE
    if isinstance(objects.masks, CroppedMasks):
        x, y, crop = objects.masks.crops[index]
        height, width = (max(1, round(side * scale)) for side in crop.shape)
        share = cv2.resize(crop.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        inside = np.pad((share >= 0.5).astype(np.uint8), margin)
        top, left = round(y * scale) - margin, round(x * scale) - margin
        # what lies beyond the picture is cut off
        inside = inside[max(-top, 0) : size[1] - top, max(-left, 0) : size[0] - left]
        top, left = max(top, 0), max(left, 0)
        window = slice(top, top + inside.shape[0]), slice(left, left + inside.shape[1])
        return window, inside
    region = _region(objects, index, size, scale)
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if not len(rows):
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.uint8)
    window = (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(columns[0] - margin, 0), columns[-1] + margin + 1),
    )
    return window, region[window].astype(np.uint8)


def _fill(part: np.ndarray, inside: np.ndarray, colour: Colour, hatched: bool) -> None:
    """Tint the inside of a part of the canvas, (h, w, 3), in place and draw its outline."""
    if not inside.size:
        return
    opacity = np.full(inside.shape, np.float32(0.5))
    if hatched:
        opacity = hatching(inside.shape, _FINE)
    opacity = (opacity * inside)[..., None]
    part[:] = part * (1 - opacity) + np.float32(colour) * opacity
    thin, thick = (
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r * _FINE + 1, 2 * r * _FINE + 1))
        for r in (1, 2)
    )
    # beyond the edge a dark line, so that the bright one within shows on any ground
    part[cv2.dilate(inside, thin) > inside] = OUTLINE
    border = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 0}
    part[inside > cv2.erode(inside, thin if hatched else thick, **border)] = colour


def _draw_tag(
    picture: Image.Image,
    text: str,
    box: np.ndarray,
    colour: Colour,
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Write `text` on a small plate at a corner of `box`, where no other plate is."""
    draw, letters = ImageDraw.Draw(picture), font(14, bold=True)
    width, height = draw.textlength(text, letters) + 8, 18
    x0, y0, x1, y1 = box
    corners = [
        (x0, y0 - height - 1),
        (x1 - width, y0 - height - 1),
        (x0, y1 + 1),
        (x1 - width, y1 + 1),
        (x1 + 2, y0),
        (x0 - width - 2, y0),
        (x1 + 2, y1 - height),
        (x0, y0 - 2 * height - 2),
        (x0, y1 + height + 2),
    ]
    best, best_cost = None, np.inf
    for rank, (x, y) in enumerate(corners):
        inside_x = min(max(x, 0), max(picture.width - width, 0))
        inside_y = min(max(y, 0), max(picture.height - height, 0))
        plate = (inside_x, inside_y, inside_x + width, inside_y + height)
        # first of all no overlap with other plates, then near where it should be
        cost = 10 * sum(_shared(plate, other) for other in taken) + rank
        cost += 2 * (abs(inside_x - x) + abs(inside_y - y))
        if cost < best_cost:
            best, best_cost = plate, cost
    taken.append(best)
    draw.rounded_rectangle(best, 4, colour, OUTLINE)
    ink = (255, 255, 255) if colour == WRONG else (15, 15, 15)
    draw.text((best[0] + 4, best[1] + height / 2), text, ink, letters, anchor="lm")


def _shared(a: Sequence[float], b: Sequence[float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
