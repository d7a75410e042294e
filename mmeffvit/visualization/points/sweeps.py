"""Contact sheets of LiDAR sweeps: points from above, with true and predicted boxes."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from mmeffvit.ops.points import bev_boxes, box_corners, rotated_iou
from mmeffvit.visualization.contact_sheet import WRONG, Rows, assign, caption
from mmeffvit.visualization.sheet import INK, PAPER, Colour, Legend, Page, compose_sheet, font

#: of classes, far apart also for most who cannot tell red from green, and far from WRONG
_CLASS_COLOURS = (
    (0, 114, 206),
    (222, 122, 0),
    (0, 148, 106),
    (128, 78, 200),
    (150, 118, 30),
    (0, 156, 178),
)
_GROUND, _HIGH = np.array((196, 203, 212)), np.array((38, 46, 60))
_MISSED = (150, 156, 164)
#: metres above the lowest points where they are darkest
_HEIGHT = 2.2
_FINE = 2
_FEW_POINTS = 15_000
_FRAME = (214, 219, 226)


@dataclasses.dataclass
class Boxes(Rows):
    """Boxes in the frame of the scanner.

    Attributes:
        boxes: (n, 7), x, y, z of the bottom, length, width, height, yaw (0 along +x, to +y).
        labels: (n,), indices into the class names.
        scores: (n,), from 0 to 1, of predictions.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None


@dataclasses.dataclass
class SweepExample:
    """A sweep on a contact sheet.

    Attributes:
        points: (N, 3 or more), metres, z up; further columns are not looked at.
        truth: What is there.
        prediction: What was found.
        name: For the caption.
        ignored: (n,), bool, true objects that count neither way.
    """

    points: np.ndarray
    truth: Boxes
    prediction: Boxes
    name: str = ""
    ignored: np.ndarray | None = None


def draw_sweep_sheet(
    examples: Sequence[SweepExample],
    classes: Sequence[str],
    title: str = "",
    subtitle: str = "",
    score_thr: float = 0.3,
    iou_thr: float = 0.3,
    bounds: Sequence[float] | None = None,
    **page: int,
) -> Image.Image:
    """Draw sweeps from above, each with its true and with the predicted boxes.

    Args:
        examples: What to draw, in this order, line by line.
        classes: Names of the classes.
        title: In large letters on top.
        subtitle: Under the title.
        score_thr: Predictions below this score are left out.
        iou_thr: Overlap from above at which a box counts as found.
        bounds: Least x and y, largest x and y of what is drawn, in metres; by default what all
            points need.
        **page: ``panel``, 420 by default, and ``columns`` of :class:`mmeffvit.visualization.Page`.

    Returns:
        The sheet, RGB.

    Raises:
        ValueError: There is no example, or a size is not positive.
    """
    if bounds is None and examples:
        bounds = find_bounds(np.concatenate([example.points[:, :2] for example in examples]))

    def draw_pictures(index: int, room: tuple[int, int]) -> tuple[list[Image.Image], str]:
        example = examples[index]
        found = example.prediction.best(score_thr)
        matches, skipped = match_boxes(found, example, iou_thr)
        colours = [class_colour(label) for label in found.labels]
        for rank in np.flatnonzero((matches < 0) | skipped):
            colours[rank] = _MISSED if skipped[rank] else WRONG
        ignored = _ignored(example)
        missed = ~ignored
        missed[matches[matches >= 0]] = False
        own = [
            _MISSED if skip else class_colour(label)
            for label, skip in zip(example.truth.labels, ignored)
        ]
        pictures = [
            draw_bev(example.points, example.truth, own, bounds, room),
            draw_bev(example.points, found, colours, bounds, room, example.truth.select(missed)),
        ]
        counts = {
            f"of {int((~ignored).sum())} found": int((matches[~skipped] >= 0).sum()),
            "wrong": int(((matches < 0) & ~skipped).sum()),
        }
        return pictures, caption(example.name, counts)

    x0, y0, x1, y1 = bounds or (0, 0, 1, 1)
    return compose_sheet(
        [(x1 - x0, y1 - y0)] * len(examples),
        draw_pictures,
        titles=("Ground truth", f"Prediction (score ≥ {score_thr:g})"),
        legend=_legend(classes, iou_thr),
        page=Page(title, subtitle, **{"panel": 420, **page}),
    )


def draw_sweep_prediction(
    points: np.ndarray,
    found: Boxes,
    classes: Sequence[str],
    score_thr: float = 0.3,
    title: str = "",
    **page: int,
) -> Image.Image:
    """Draw a sweep from above with the predicted boxes.

    Args:
        points: (N, 3 or more), metres, z up; there may be none.
        found: What was found.
        classes: Names of the classes.
        score_thr: Predictions below this score are left out.
        title: In large letters on top.
        **page: ``panel``, 640 by default, of :class:`mmeffvit.visualization.Page`.

    Returns:
        The sheet, RGB.
    """
    found = found.best(score_thr)
    bounds = find_bounds(points[:, :2] if len(points) else np.zeros((1, 2)))

    def draw_pictures(index: int, room: tuple[int, int]) -> tuple[list[Image.Image], str]:
        return [draw_bev(points, found, None, bounds, room)], f"{len(points)} points"

    x0, y0, x1, y1 = bounds
    return compose_sheet(
        [(x1 - x0, y1 - y0)],
        draw_pictures,
        titles=(f"Prediction (score ≥ {score_thr:g})",),
        legend=_class_legend(classes),
        page=Page(title, **{"panel": 640, **page}),
    )


def draw_bev(
    points: np.ndarray,
    boxes: Boxes,
    colours: Sequence[Colour] | None = None,
    bounds: Sequence[float] | None = None,
    size: tuple[int, int] = (420, 420),
    missed: Boxes | None = None,
) -> Image.Image:
    """Draw a sweep from above: x, the way forward, is up, and y to the left.

    The higher a point, the darker. Boxes are filled at their fronts, and have their scores beside
    them.

    Args:
        points: (N, 3 or more), metres, z up.
        boxes: What to draw.
        colours: Of each box; that of its class by default.
        bounds: Least x and y, largest x and y of what is drawn; by default what the points need.
        size: Width and height that the picture may have.
        missed: Drawn with broken lines.

    Returns:
        The picture, RGB.
    """
    points = np.asarray(points, float)
    x0, y0, x1, y1 = bounds or find_bounds(points[:, :2])
    scale = min(size[0] / (y1 - y0), size[1] / (x1 - x0))
    width, height = max(1, round((y1 - y0) * scale)), max(1, round((x1 - x0) * scale))
    fine = scale * _FINE

    def pixel(xy: np.ndarray) -> np.ndarray:
        return np.stack(((y1 - xy[..., 1]) * fine, (x1 - xy[..., 0]) * fine), axis=-1)

    canvas = np.empty((height * _FINE, width * _FINE, 3), np.uint8)
    canvas[:] = PAPER
    _draw_points(canvas, pixel(points[:, :2]), points[:, 2])
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    if missed is not None:
        for box in missed.boxes:
            _broken_line(draw, pixel(_outline(box)), _MISSED)
    colours = colours or [class_colour(label) for label in boxes.labels]
    for box, colour in zip(boxes.boxes, colours):
        _draw_box(draw, box, pixel, colour)
    if x0 <= 0 <= x1 and y0 <= 0 <= y1:
        # the scanner
        x, y = pixel(np.zeros(2))
        y = min(y, picture.height - 1)
        draw.polygon([(x, y - 22), (x - 12, y), (x + 12, y)], INK)
    draw.rectangle((0, 0, picture.width - 1, picture.height - 1), outline=_FRAME, width=_FINE)
    picture = picture.resize((width, height), Image.Resampling.BOX)
    _draw_scores(picture, boxes, colours, lambda xy: pixel(xy) / _FINE)
    _draw_scale(picture, scale)
    return picture


def find_bounds(points: np.ndarray) -> tuple[float, float, float, float]:
    """Least x and y, largest x and y of nearly all points (N, 2), in steps of five metres."""
    low, high = np.percentile(points, (0.2, 99.8), axis=0)
    (x0, y0), (x1, y1) = np.floor(low / 5) * 5, np.ceil(high / 5) * 5
    return float(x0), float(y0), float(max(x1, x0 + 5)), float(max(y1, y0 + 5))


def match_boxes(
    found: Boxes, example: SweepExample, iou_thr: float
) -> tuple[np.ndarray, np.ndarray]:
    """Give each predicted box, best first, the free true one of its class it overlaps most.

    Returns:
        For each prediction the index of the true box or -1, and whether it is to be left out of
        account because it matches one that counts neither way.
    """
    a, b = (
        bev_boxes(torch.from_numpy(np.asarray(boxes.boxes, float).reshape(-1, 7)))
        for boxes in (found, example.truth)
    )
    rows, columns = (grid.reshape(-1) for grid in np.indices((len(a), len(b))))
    overlap = rotated_iou(a[rows], b[columns]).numpy().reshape(len(a), len(b))
    same = np.asarray(found.labels)[:, None] == np.asarray(example.truth.labels)[None]
    matches = assign(np.where(same, overlap, -1.0), iou_thr)
    skipped = np.zeros(len(found), bool)
    skipped[matches >= 0] = _ignored(example)[matches[matches >= 0]]
    return matches, skipped


def class_colour(label: int) -> Colour:
    """The colour of a class on sheets of sweeps."""
    return _CLASS_COLOURS[int(label) % len(_CLASS_COLOURS)]


def _ignored(example: SweepExample) -> np.ndarray:
    if example.ignored is None:
        return np.zeros(len(example.truth), bool)
    return np.asarray(example.ignored, bool)


def _legend(classes: Sequence[str], iou_thr: float) -> Legend:
    return [
        *_class_legend(classes),
        ((WRONG,), f"wrong: matches no true box (IoU ≥ {iou_thr:g} from above, same class)"),
        ((_MISSED,), "broken line: missed; whole line: counts neither way"),
    ]


def _class_legend(classes: Sequence[str]) -> Legend:
    return [((class_colour(label),), name) for label, name in enumerate(classes)]


def _outline(box: np.ndarray) -> np.ndarray:
    """Corners (4, 2) from above, the two of the front first."""
    box = torch.from_numpy(np.asarray(box, float)[None])
    return box_corners(bev_boxes(box))[0, [2, 1, 0, 3]].numpy()


def _draw_points(canvas: np.ndarray, pixels: np.ndarray, heights: np.ndarray) -> None:
    """Points as small squares on `canvas` (H, W, 3), in place, the highest on top."""
    if not len(pixels):
        return
    share = ((heights - np.percentile(heights, 3)) / _HEIGHT).clip(0, 1)[:, None]
    colours = (_GROUND + share * (_HIGH - _GROUND)).astype(np.uint8)
    order = np.argsort(heights, kind="stable")
    columns, rows = pixels[order].astype(int).T
    # larger where there are few
    side = _FINE + (len(pixels) < _FEW_POINTS)
    for dy in range(side):
        for dx in range(side):
            x, y = columns + dx, rows + dy
            inside = (x >= 0) & (x < canvas.shape[1]) & (y >= 0) & (y < canvas.shape[0])
            canvas[y[inside], x[inside]] = colours[order][inside]


def _draw_box(draw: ImageDraw.ImageDraw, box: np.ndarray, pixel, colour: tuple) -> None:
    corners = _outline(box)
    line = [tuple(p) for p in pixel(corners)]
    # the front quarter is filled, so that one sees where it heads
    front = np.stack((corners[0], corners[1], *(0.7 * corners[1::-1] + 0.3 * corners[2:])))
    draw.polygon([tuple(p) for p in pixel(front)], colour)
    draw.line([*line, line[0], line[1]], colour, 2 * _FINE, joint="curve")


def _broken_line(draw: ImageDraw.ImageDraw, corners: np.ndarray, colour: tuple) -> None:
    for start, end in zip(corners, np.roll(corners, -1, axis=0)):
        length = float(np.linalg.norm(end - start))
        count = max(1, round(length / 10))
        for index in range(count):
            a, b = (start + (end - start) * (index + share) / count for share in (0.0, 0.55))
            draw.line([tuple(a), tuple(b)], colour, 3)


def _draw_scores(picture: Image.Image, boxes: Boxes, colours: Sequence[tuple], pixel) -> None:
    if boxes.scores is None:
        return
    draw, letters = ImageDraw.Draw(picture), font(11, bold=True)
    for box, score, colour in zip(boxes.boxes, boxes.scores, colours):
        corners = pixel(_outline(box))
        text = f"{score:.2f}".lstrip("0")
        width = draw.textlength(text, letters)
        x = corners[:, 0].max() + 3
        if x + width > picture.width:
            x = corners[:, 0].min() - width - 3
        y = corners[:, 1].mean().clip(7, picture.height - 7)
        draw.text((x, y), text, colour, letters, anchor="lm", stroke_width=2, stroke_fill=PAPER)


def _draw_scale(picture: Image.Image, scale: float) -> None:
    """A bar that says how long some metres are, in the lower left."""
    metres = next(m for m in (50, 20, 10, 5, 2, 1) if m * scale < 0.35 * picture.width or m == 1)
    draw = ImageDraw.Draw(picture)
    x, y = 12, picture.height - 12
    end = x + metres * scale
    draw.line((x, y, end, y), INK, 2)
    for at in (x, end):
        draw.line((at, y - 4, at, y + 4), INK, 2)
    letters = font(12)
    at = ((x + end) / 2, y - 7)
    draw.text(at, f"{metres} m", INK, letters, anchor="ms", stroke_width=2, stroke_fill=PAPER)
