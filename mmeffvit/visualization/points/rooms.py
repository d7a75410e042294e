"""Contact sheets of rooms: colours, true classes and predicted ones, from two corners."""

import colorsys
import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmeffvit.visualization.points.cloud import draw_clouds
from mmeffvit.visualization.segmentation import make_legend, verdict
from mmeffvit.visualization.sheet import PALE, Page, compose_sheet

#: where the camera stands, in degrees from +x towards +y: corners across from each other
_CORNERS = (235.0, 55.0)
#: height and width of a picture
_SHAPE = (0.92, 1.0)
#: of more points, some are drawn
_MOST_POINTS = 80_000


@dataclasses.dataclass
class RoomExample:
    """A room on a contact sheet.

    Attributes:
        points: (N, 3), metres, z up.
        colours: (N, 3), RGB from 0 to 255.
        truth: (N,), the class of each point; 255 where there is none.
        prediction: (N,), likewise.
        name: For the caption.
    """

    points: np.ndarray
    colours: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    name: str = ""


def draw_room_sheet(
    examples: Sequence[RoomExample],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    title: str = "",
    subtitle: str = "",
    **page: int,
) -> Image.Image:
    """Draw rooms, each in its colours, with its true classes and with the predicted ones.

    Rooms are seen from above at an angle, from two opposite corners, without the ceiling and the
    walls in front. Captions say how many of the labelled points are right, and the mean IoU over
    the classes that a room has; both of all its points, also of those that are not in view.

    Args:
        examples: What to draw, in this order, each with its two views one after the other.
        classes: Names of the classes.
        palette: RGB of each class.
        title: In large letters on top.
        subtitle: Under the title.
        **page: ``panel`` and ``columns``, of views, of :class:`mmeffvit.visualization.Page`.

    Returns:
        The sheet, RGB.

    Raises:
        ValueError: There is no example, or a size is not positive.
    """

    def draw_pictures(index: int, room: tuple[int, int]) -> tuple[list[Image.Image], str]:
        number, corner = divmod(index, len(_CORNERS))
        example = examples[number]
        step = -(-len(example.points) // _MOST_POINTS)
        colourings = [
            example.colours,
            colour_labels(example.truth, palette),
            colour_labels(example.prediction, palette),
        ]
        pictures = draw_clouds(
            example.points[::step], [c[::step] for c in colourings], room, _CORNERS[corner]
        )
        text = verdict(example.truth, example.prediction, len(classes), "points")
        if corner:
            text = "from the opposite corner"
        return pictures, f"{example.name}   {text}".strip()

    shown = [labels for example in examples for labels in (example.truth, example.prediction)]
    legend = [
        (colours, "not labelled" if "not labelled" in text else text)
        for colours, text in make_legend(shown, classes, palette)
    ]
    return compose_sheet(
        [_SHAPE] * (len(examples) * len(_CORNERS)),
        draw_pictures,
        titles=("Room", "Ground truth", "Prediction"),
        legend=legend,
        page=Page(title, subtitle, **page),
    )


def draw_room_prediction(
    points: np.ndarray,
    colours: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    title: str = "",
    **page: int,
) -> Image.Image:
    """Draw a room from two opposite corners, in its colours and with predicted classes.

    Args:
        points: (N, 3), metres, z up.
        colours: (N, 3), RGB from 0 to 255.
        labels: (N,), the class of each point.
        classes: Names of the classes.
        palette: RGB of each class.
        title: In large letters on top.
        **page: ``panel`` and ``columns``, of views, of :class:`mmeffvit.visualization.Page`.

    Returns:
        The sheet, RGB.
    """
    step = -(-len(points) // _MOST_POINTS)
    colourings = [colours[::step], colour_labels(labels[::step], palette)]

    def draw_pictures(corner: int, room: tuple[int, int]) -> tuple[list[Image.Image], str]:
        pictures = draw_clouds(points[::step], colourings, room, _CORNERS[corner])
        return pictures, "from the opposite corner" if corner else f"{len(points)} points"

    return compose_sheet(
        [_SHAPE] * len(_CORNERS),
        draw_pictures,
        titles=("Room", "Prediction"),
        legend=make_legend([labels], classes, palette),
        page=Page(title, **page),
    )


def colour_labels(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """The colour (N, 3) of each point's class (N); grey for what is no class."""
    labels = np.asarray(labels)
    known = (labels >= 0) & (labels < len(palette))
    colours = np.asarray(palette, np.float32)[np.where(known, labels, 0)]
    colours[~known] = PALE
    return colours


def make_palette(num_classes: int) -> list[tuple[int, int, int]]:
    """Colours for classes whose data set has none: hues far from those of the neighbours."""
    hues = np.arange(num_classes) * 0.618 % 1
    levels = ((0.75, 0.9), (0.5, 0.95), (0.85, 0.62))
    colours = (colorsys.hsv_to_rgb(h, *levels[i % len(levels)]) for i, h in enumerate(hues))
    return [tuple(round(255 * channel) for channel in colour) for colour in colours]
