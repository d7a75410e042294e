"""One image of the digits data: texture, clutter and scanned digits, painted back to front.

Every layer is a patch of opacity, and what a layer covers is taken from the masks below it, so a
mask is exactly what can be seen of its digit.
"""

import dataclasses

import cv2
import numpy as np

from mmeffvit.demo_data.digits.polygons import mask_extent

# sides of a digit, and of a digit in a crowd, as fractions of the image's shorter side
DIGIT_SIZES = (0.2, 0.4)
CROWD_SIZES = (0.085, 0.11)
# ink of a scan (0 to 1) above which a pixel belongs to the digit
_INK_THRESHOLD = 0.5
_MIN_VISIBLE = 0.7
# digits are bright ink on darker ground: brightness (0 to 255) above what lies around them
_MIN_CONTRAST = 60.0
_MAX_GROUND = 125.0
_LUMA = np.array([0.114, 0.587, 0.299], np.float32)
# offset of a digit's shadow, as a fraction of its side
_SHADOW = 0.04


@dataclasses.dataclass
class Instance:
    """What can be seen of one digit, or of one crowd of digits.

    Attributes:
        digit: 0 to 9.
        mask: (H, W), bool.
        scans: Indices of the scans that were drawn.
        area: Pixels the mask would have if nothing hid any of it.
        is_crowd: Whether the mask covers many digits at once.
    """

    digit: int
    mask: np.ndarray
    scans: list[int]
    area: int
    is_crowd: bool = False


@dataclasses.dataclass
class _Layer:
    """A patch of opacity `alpha` (h, w) whose first pixel lies at (`y`, `x`), maybe outside."""

    alpha: np.ndarray
    y: int
    x: int


def draw_scene(
    rng: np.random.Generator,
    scans: np.ndarray,
    digits: np.ndarray,
    scan_ids: np.ndarray,
    height: int,
    width: int,
    max_digits: int,
    with_crowd: bool,
    digit_sizes: tuple[float, float] = DIGIT_SIZES,
    plain: bool = False,
    ground: np.ndarray | None = None,
) -> tuple[np.ndarray, list[Instance]]:
    """Paint one image.

    Args:
        rng: The only source of chance.
        scans: (N, 8, 8), ink from 0 to 1, the scans to choose from.
        digits: (N,), which digit each scan is.
        scan_ids: (N,), the number of each scan in the whole data set.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        max_digits: At most this many single digits are drawn; 0 leaves clutter alone.
        with_crowd: Whether a crowd of small digits is drawn, too.
        digit_sizes: Sides of the smallest and largest digit, as fractions of the image's shorter
            side.
        plain: Leave texture and clutter away: digits on one dark colour.
        ground: (H, W, 3), float32, 0 to 255, to paint on in the place of texture or dark colour.

    Returns:
        The image (H, W, 3), uint8, in BGR order, and the instances in it, those behind first.
    """
    side = min(height, width)
    if ground is not None:
        image = ground.copy()
    elif plain:
        image = np.full((height, width, 3), rng.uniform(0, _MAX_GROUND / 2), np.float32)
    else:
        image = _texture(rng, height, width)
    if not plain:
        for _ in range(rng.integers(1, 6)):
            _paint(image, _clutter(rng, height, width), draw_colour(rng))

    instances: list[Instance] = []
    if with_crowd:
        instances.append(_draw_crowd(rng, image, scans, digits, scan_ids))
    for _ in range(rng.integers(min(2, max_digits), max_digits + 1)):
        pick = int(rng.integers(len(scans)))
        # even in the logarithm: small digits are as frequent as they look
        size = side * np.exp(rng.uniform(*np.log(digit_sizes)))
        alpha = _digit_alpha(rng, scans[pick], size)
        layer, mask = _place(rng, alpha, instances, height, width)
        if layer is None:
            continue
        _paint_digit(image, layer, _contrasting_colour(rng, image[mask]), size)
        for other in instances:
            other.mask &= ~mask
        area = np.count_nonzero(alpha >= 0.5)
        instances.append(Instance(int(digits[pick]), mask, [int(scan_ids[pick])], area))

    # no sensor is without noise
    image += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(1, 8))
    return image.round().clip(0, 255).astype(np.uint8), instances


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Two colours mixed by two random fields: (H, W, 3), float32, 0 to 255."""
    y, x = np.mgrid[:height, :width].astype(np.float32) / min(height, width)
    fields = [field(rng, y, x) for _ in range(2)]
    share = np.float32(rng.uniform(0.2, 0.8))
    mix = (share * fields[0] + (1 - share) * fields[1])[..., None]
    first, second = draw_colour(rng), draw_colour(rng)
    # seldom as strong as the contrast of a digit
    image = first + (second - first) * np.float32(rng.uniform(0.15, 0.6)) * mix
    return darken(image)


def darken(image: np.ndarray) -> np.ndarray:
    """A ground (H, W, 3) on which bright digits can be seen."""
    return image * min(1.0, _MAX_GROUND / float((image @ _LUMA).mean()))


def field(
    rng: np.random.Generator, y: np.ndarray, x: np.ndarray, kind: int | None = None
) -> np.ndarray:
    """A gradient (kind 0), noise, stripes or checks over the coordinates `y`, `x`, from 0 to 1."""
    kind = rng.integers(4) if kind is None else kind
    angle, phase = np.float32(rng.uniform(0, np.pi)), np.float32(rng.uniform(0, 2 * np.pi))
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    if kind == 0:
        values = along
    elif kind == 1:
        values = np.zeros_like(x)
        for octave in range(3):
            grid = rng.random((3 << octave, 3 << octave), np.float32)
            shape = (x.shape[1], x.shape[0])
            values += cv2.resize(grid, shape, interpolation=cv2.INTER_CUBIC) / (1 << octave)
    else:
        frequency = np.float32(2 * np.pi * np.exp(rng.uniform(*np.log((2, 14)))))
        swing, pace = np.float32(rng.uniform(0, 0.08)), np.float32(rng.uniform(4, 12))
        bend = swing * np.sin(across * pace + phase)
        values = np.sin(frequency * (along + bend) + phase)
        if kind == 3:
            values = values * np.sin(frequency * across)
        values = np.tanh(values * np.float32(rng.uniform(0.5, 4)))
    low, high = values.min(), values.max()
    return (values - low) / (high - low + 1e-6)


def _clutter(rng: np.random.Generator, height: int, width: int) -> _Layer:
    """A distractor that is no digit: a long curve, a blob, a polygon or a spray of dots."""
    side = min(height, width)
    canvas = np.zeros((height, width), np.uint8)
    kind = rng.integers(4)
    centre = rng.uniform(0, 1, 2) * (width, height)
    radius = side * rng.uniform(0.04, 0.16)
    if kind == 0:  # longer and thinner than the strokes of any digit
        steps = rng.normal(0, 0.5, 24).cumsum() * 0.5 + rng.uniform(0, 2 * np.pi)
        walk = np.stack([np.cos(steps), np.sin(steps)], 1).cumsum(0) * side * 0.045
        thickness = max(1, round(side * rng.uniform(0.006, 0.02)))
        cv2.polylines(canvas, [_fixed(centre + walk)], False, 255, thickness, cv2.LINE_AA, 4)
    elif kind == 1:  # a circle whose radius wavers
        angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        waver = 1 + rng.uniform(0, 0.3) * np.sin(rng.integers(1, 6) * angles + rng.uniform(0, 6))
        stretch = np.array([1, rng.uniform(0.5, 1)])
        ring = np.stack([np.cos(angles), np.sin(angles)], 1) * waver[:, None] * stretch
        cv2.fillPoly(canvas, [_fixed(centre + ring * radius)], 255, cv2.LINE_AA, 4)
    elif kind == 2:  # three to six corners
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
        ring = np.stack([np.cos(angles), np.sin(angles)], 1)
        cv2.fillPoly(canvas, [_fixed(centre + ring * radius)], 255, cv2.LINE_AA, 4)
    else:
        for dot in rng.normal(0, 0.6, (rng.integers(5, 25), 2)) * radius + centre:
            dot_radius = max(1.0, side * rng.uniform(0.004, 0.014))
            point = _fixed(dot[None])[0].tolist()
            cv2.circle(canvas, point, round(dot_radius * 16), 255, -1, cv2.LINE_AA, 4)
    y0, x0, y1, x1 = mask_extent(canvas > 0)
    opacity = np.float32(rng.uniform(0.5, 1) / 255)
    return _Layer(canvas[y0:y1, x0:x1] * opacity, y0, x0)


def _fixed(points: np.ndarray) -> np.ndarray:
    """Coordinates with four fractional bits, as OpenCV's drawing functions take them."""
    return (points * 16).round().astype(np.int32)


def _digit_alpha(rng: np.random.Generator, scan: np.ndarray, size: float) -> np.ndarray:
    """Enlarge a scan smoothly to about `size` pixels, turn and slant it a little: opacity."""
    cell = size / scan.shape[0]
    angle, slant = np.deg2rad(rng.uniform(-14, 14)), rng.uniform(-0.12, 0.12)
    stretch = rng.uniform(0.85, 1.15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, slant], [0, 1]]) * [stretch * cell, cell / stretch]
    patch = int(np.ceil(size * 1.6))
    centre = (scan.shape[0] - 1) / 2
    shift = (patch - 1) / 2 - matrix @ [centre, centre]
    ink = cv2.warpAffine(
        scan.astype(np.float32),
        np.concatenate([matrix, shift[:, None]], 1),
        (patch, patch),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_CONSTANT,
    )
    # an edge about one and a half pixels wide, with its middle at the threshold
    alpha = ((ink - _INK_THRESHOLD) * max(cell * 0.8, 1.5) + 0.5).clip(0, 1)
    # specks that the threshold cut off are no part of the digit
    count, labels, stats, _ = cv2.connectedComponentsWithStats((alpha >= 0.5).astype(np.uint8))
    for index in range(1, count):
        if stats[index, cv2.CC_STAT_AREA] < 0.06 * (labels > 0).sum():
            alpha[cv2.dilate((labels == index).astype(np.uint8), np.ones((3, 3))) > 0] = 0
    y0, x0, y1, x1 = mask_extent(alpha > 0)
    return alpha[y0:y1, x0:x1]


def _place(
    rng: np.random.Generator, alpha: np.ndarray, instances: list[Instance], height: int, width: int
) -> tuple[_Layer | None, np.ndarray | None]:
    """Find a place where enough of the new digit and of those it covers can be seen."""
    h, w = alpha.shape
    area = np.count_nonzero(alpha >= 0.5)
    wants_overlap = bool(instances) and rng.random() < 0.2
    for _ in range(25):
        if wants_overlap:  # beside a digit that is there, near enough to touch it
            y0, x0, y1, x1 = mask_extent(instances[rng.integers(len(instances))].mask)
            middle = np.array([y0 + y1 - h, x0 + x1 - w]) / 2
            reach = np.array([y1 - y0 + h, x1 - x0 + w]) / 2
            y, x = (middle + rng.uniform(-0.9, 0.9, 2) * reach).astype(int)
        else:  # a little may stick out of the image
            y = int(rng.uniform(-0.08 * h, height - 0.92 * h))
            x = int(rng.uniform(-0.08 * w, width - 0.92 * w))
        layer = _Layer(alpha, int(y), int(x))
        mask = _layer_mask(layer, height, width)
        if np.count_nonzero(mask) >= 0.9 * area and all(
            np.count_nonzero(other.mask & ~mask) >= _MIN_VISIBLE * other.area for other in instances
        ):
            return layer, mask
    return None, None


def _draw_crowd(
    rng: np.random.Generator,
    image: np.ndarray,
    scans: np.ndarray,
    digits: np.ndarray,
    scan_ids: np.ndarray,
) -> Instance:
    """Heap up small scans of one digit: COCO compares a crowd with detections of its class only."""
    height, width = image.shape[:2]
    side = min(height, width)
    digit = int(rng.integers(10))
    choice = rng.choice(np.flatnonzero(digits == digit), rng.integers(12, 22))
    spread = rng.uniform(0.07, 0.12, 2) * side
    centre = rng.uniform(0.2, 0.8, 2) * (height, width)
    mask = np.zeros((height, width), bool)
    colour = _contrasting_colour(rng, image.reshape(-1, 3))
    for pick in choice:
        size = side * rng.uniform(*CROWD_SIZES)
        alpha = _digit_alpha(rng, scans[pick], size)
        y, x = centre + rng.uniform(-1.3, 1.3, 2) * spread - np.array(alpha.shape) / 2
        layer = _Layer(alpha, int(y), int(x))
        _paint_digit(image, layer, (colour + rng.normal(0, 25, 3)).clip(0, 255), size)
        mask |= _layer_mask(layer, height, width)
    # one region, gaps between its digits included
    reach = round(0.06 * side) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    padded = np.pad(mask.astype(np.uint8), reach)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)
    mask = closed[reach:-reach, reach:-reach] > 0
    ids = sorted({int(scan_ids[pick]) for pick in choice})
    return Instance(digit, mask, ids, np.count_nonzero(mask), is_crowd=True)


def _overlap(layer: _Layer, height: int, width: int) -> tuple[slice, slice, np.ndarray]:
    """The rows and columns of the image under a layer, and the part of the layer above them."""
    y0, x0 = max(layer.y, 0), max(layer.x, 0)
    y1 = max(min(layer.y + layer.alpha.shape[0], height), y0)
    x1 = max(min(layer.x + layer.alpha.shape[1], width), x0)
    patch = layer.alpha[y0 - layer.y : y1 - layer.y, x0 - layer.x : x1 - layer.x]
    return slice(y0, y1), slice(x0, x1), patch


def _layer_mask(layer: _Layer, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    rows, columns, patch = _overlap(layer, height, width)
    mask[rows, columns] = patch >= 0.5
    return mask


def _paint(image: np.ndarray, layer: _Layer, colour: np.ndarray) -> None:
    """Lay `colour` over `image` in place, as opaque as the layer is."""
    rows, columns, patch = _overlap(layer, *image.shape[:2])
    under = image[rows, columns]
    under += patch[..., None] * (colour.astype(np.float32) - under)


def _paint_digit(image: np.ndarray, layer: _Layer, colour: np.ndarray, size: float) -> None:
    """A digit and its soft shadow, which parts it from what lies behind."""
    blur = max(1, round(size * _SHADOW))
    soft = cv2.GaussianBlur(np.pad(layer.alpha, 2 * blur), (0, 0), blur)
    _paint(image, _Layer(soft * 0.5, layer.y - blur, layer.x - blur), np.zeros(3))
    _paint(image, layer, colour)


def draw_colour(rng: np.random.Generator) -> np.ndarray:
    """BGR, 0 to 255; greys and strong colours alike."""
    hue, saturation, value = rng.random(), rng.random() ** 0.7, rng.uniform(0.1, 1)
    pixel = np.float32([[[hue * 360, saturation, value]]])
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0] * 255


def _contrasting_colour(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """A colour brighter than `pixels` (N, 3) are on average, or than any ground is."""
    behind = min(float((pixels @ _LUMA).mean()), _MAX_GROUND)
    for _ in range(20):
        colour = draw_colour(rng)
        if float(colour @ _LUMA) - behind >= _MIN_CONTRAST:
            return colour
    return np.full(3, 255.0, np.float32)
