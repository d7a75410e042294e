"""Pictures of point clouds: discs with a depth buffer, in numpy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmeffvit.visualization.sheet import PAPER

#: pictures are drawn this many times as large, and then shrunk
_FINE = 2
#: metres of the outermost part of a room in which its walls and its ceiling are looked for
_SHELL, _BIN = 0.6, 0.05
#: what is cut off with a wall, or with the ceiling, in metres
_SLICE = 0.17
_SHADE, _DARKEST = 5.0, 0.35
_BORDER = 0.08


def draw_cloud(points: np.ndarray, colours: np.ndarray, *args: Any, **kwargs: Any) -> Image.Image:
    """Draw a point cloud in colours (N, 3); all other arguments are those of `draw_clouds`."""
    return draw_clouds(points, [colours], *args, **kwargs)[0]


def draw_clouds(
    points: np.ndarray,
    colourings: Sequence[np.ndarray],
    size: tuple[int, int] = (480, 360),
    azimuth: float = 235.0,
    elevation: float = 48.0,
    open_room: bool = True,
    spacing: float | None = None,
) -> list[Image.Image]:
    """Draw a point cloud as seen from above at an angle, once in each of several colourings.

    There is no perspective. Points are discs, the nearer ones over the farther ones; edges in depth
    are darkened, so that shapes show whatever the colours.

    Args:
        points: (N, 3), metres, z up.
        colourings: Of each picture (N, 3), RGB from 0 to 255.
        size: Width and height of a picture.
        azimuth: Where the camera stands, in degrees from +x towards +y.
        elevation: How high it stands, in degrees above the horizon.
        open_room: Leave out the ceiling and the walls between the camera and the room.
        spacing: Distance between points in metres, which decides the size of the discs; by default
            it is estimated.

    Returns:
        The pictures, RGB, on white.

    Raises:
        ValueError: There are no points, or shapes do not fit.
    """
    points = np.asarray(points, float)
    colourings = [np.asarray(colours, np.float32) for colours in colourings]
    for colours in colourings:
        if points.ndim != 2 or points.shape[1] != 3 or not len(points):
            raise ValueError(f"a cloud is (N, 3) of at least one point, got {points.shape}")
        if colours.shape != points.shape:
            raise ValueError(f"{points.shape} points need as many colours, got {colours.shape}")
    right, up, towards = camera_axes(azimuth, elevation)
    # of the whole room, so that opening it does not move it
    left, low = (points @ np.stack((right, up), 1)).min(0) - _BORDER
    end, high = (points @ np.stack((right, up), 1)).max(0) + _BORDER
    kept = np.ones(len(points), bool)
    if open_room and len(points) > 1:
        kept = inside_of_room(points, towards)
        # nothing but a wall
        kept |= not kept.any()
    points = points[kept]
    width, height = size[0] * _FINE, size[1] * _FINE
    scale = min(width / (end - left), height / (high - low))
    x = (points @ right - (left + end) / 2) * scale + width / 2
    y = ((low + high) / 2 - points @ up) * scale + height / 2
    radius = max(1.0, 0.75 * (spacing or estimate_spacing(points)) * scale)
    nearest = _splat(x, y, points @ towards, radius, (width, height))
    drawn = nearest >= 0
    depth = np.full(nearest.shape, -np.inf)
    depth[drawn] = (points @ towards)[nearest[drawn]]
    shade = _edges(depth, 1 / scale)[drawn, None]
    pictures = []
    for colours in colourings:
        canvas = np.empty((height, width, 3), np.float32)
        canvas[:] = PAPER
        canvas[drawn] = colours[kept][nearest[drawn]] * shade
        picture = Image.fromarray(canvas.round().clip(0, 255).astype(np.uint8))
        pictures.append(picture.resize(size, Image.Resampling.BOX))
    return pictures


def camera_axes(azimuth: float, elevation: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors to the right and up in the picture, and from the scene to the camera."""
    a, e = math.radians(azimuth), math.radians(elevation)
    towards = np.array((math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)))
    right = np.array((-math.sin(a), math.cos(a), 0.0))
    return right, np.cross(towards, right), towards


def inside_of_room(points: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Mask (N,) of the points that are not part of the shell between a camera and a room.

    Along each axis the wall, or the ceiling, is where most points are near the outermost one.

    Args:
        points: (N, 3), metres, walls along x and y.
        towards: (3,), from the room to the camera.
    """
    kept = np.ones(len(points), bool)
    for axis in range(3):
        if abs(towards[axis]) < 0.1:
            continue
        outward = points[:, axis] * np.sign(towards[axis])
        shell = outward.max() - outward
        counts = np.bincount((shell[shell < _SHELL] / _BIN).astype(int))
        kept &= shell > (counts.argmax() + 0.5) * _BIN + _SLICE
    return kept


def estimate_spacing(points: np.ndarray) -> float:
    """Distance from a point to its neighbours, as most of a sample have it, in metres."""
    if len(points) < 6:
        return 0.05
    some = points[:: max(1, len(points) // 150)][:150]
    squares = ((some[:, None] - points[None]) ** 2).sum(-1)
    # itself, and the nearest of what should be four around it
    return float(np.median(np.sqrt(np.partition(squares, 4, axis=1)[:, 4])))


def _splat(
    x: np.ndarray, y: np.ndarray, depth: np.ndarray, radius: float, size: tuple[int, int]
) -> np.ndarray:
    """The point that each pixel shows, (H, W), -1 for none, if points are discs."""
    reach = math.ceil(radius)
    side = np.arange(-reach, reach + 1)
    dy, dx = (grid.ravel() for grid in np.meshgrid(side, side, indexing="ij"))
    disc = dx * dx + dy * dy <= radius * radius
    # with a border, so that no disc ends at an edge
    width, height = size[0] + 2 * reach, size[1] + 2 * reach
    columns, rows = ((v.round().astype(int) + reach) for v in (x, y))
    seen = (columns >= reach) & (columns < width - reach)
    seen &= (rows >= reach) & (rows < height - reach)
    # the nearest last: of values written to one pixel, the last stays
    order = np.flatnonzero(seen)[np.argsort(depth[seen], kind="stable")]
    pixels = (rows[order] * width + columns[order])[:, None] + (dy * width + dx)[disc]
    nearest = np.full(height * width, -1)
    nearest[pixels.ravel()] = np.repeat(order, pixels.shape[1])
    return nearest.reshape(height, width)[reach : height - reach, reach : width - reach]


def _edges(depth: np.ndarray, pixel: float) -> np.ndarray:
    """Brightness (H, W) of pixels, lower beside what is nearer; `pixel` is its side in metres."""
    height, width = depth.shape
    reach = 2 * _FINE
    padded = np.pad(depth, reach, constant_values=-np.inf)
    behind = np.zeros_like(depth)
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        neighbour = padded[
            reach + dy * reach : reach + dy * reach + height,
            reach + dx * reach : reach + dx * reach + width,
        ]
        with np.errstate(invalid="ignore"):
            # a slope is no edge
            gap = neighbour - depth - 3 * reach * pixel
        behind += np.nan_to_num(gap, nan=0.0, posinf=0.0, neginf=0.0).clip(0, 0.4)
    return np.maximum(np.exp(-_SHADE * behind / 4), _DARKEST)
