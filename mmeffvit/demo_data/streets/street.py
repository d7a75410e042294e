"""Streets of simple solids, with cars, pedestrians and cyclists of the sizes that KITTI's have.

The scanner is the origin; x points forward, y to the left, z up, and the street lies below.
"""

import dataclasses
import math

import numpy as np

from mmeffvit.demo_data.ray_caster import Place, Scene
from mmeffvit.ops.points import wrap_angle

#: height of the scanner above the street in metres
SCANNER_HEIGHT = 1.73
#: length, width, height: mean and standard deviation of each
_SIZES = {
    "Car": ((3.9, 1.63, 1.53), (0.35, 0.09, 0.11)),
    "Pedestrian": ((0.82, 0.64, 1.75), (0.12, 0.07, 0.1)),
    "Cyclist": ((1.75, 0.6, 1.74), (0.1, 0.06, 0.08)),
}
#: least and most of each in the field
_NUMBERS = {"Car": (5, 9), "Cyclist": (2, 5), "Pedestrian": (3, 6)}
_GROUND_TAG = 0
_TRIES = 40


@dataclasses.dataclass(frozen=True)
class StreetObject:
    """Something to be found.

    Attributes:
        name: ``'Car'``, ``'Pedestrian'`` or ``'Cyclist'``.
        box: x, y, z of the middle of its bottom, length, width, height, yaw.
        tag: Of all its solids.
    """

    name: str
    box: tuple[float, ...]
    tag: int


class Street:
    """A street and what is on it.

    Attributes:
        scene: Its solids; the tags are indices of `reflectance`.
        objects: What is to be found.
        reflectance: Share of the light that comes back, of each tag.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.scene = Scene()
        self.objects: list[StreetObject] = []
        self.reflectance: list[float] = []
        self._taken: list[tuple[float, float, float]] = []
        slope = rng.normal(0, 0.008, 2).clip(-0.02, 0.02)
        self._normal = np.array((*slope, 1.0))
        self._foot = (0.0, 0.0, -SCANNER_HEIGHT + rng.normal(0, 0.03))
        self.scene.add_plane(self._foot, self._normal, self.new_tag(0.18, 0.3))
        #: where the street leads, and how far its middle is from the scanner
        self.heading = rng.uniform(-0.25, 0.25)
        self.middle = rng.uniform(-2.5, 2.5)

    def new_tag(self, low: float, high: float) -> int:
        """A tag for something that sends back this share of the light."""
        self.reflectance.append(self.rng.uniform(low, high))
        return len(self.reflectance) - 1

    def ground(self, x: float, y: float) -> float:
        """Height of the street."""
        (x0, y0, z0), (a, b, c) = self._foot, self._normal
        return z0 - (a * (x - x0) + b * (y - y0)) / c

    def at(self, along: float, across: float) -> tuple[float, float]:
        """x, y of a point of the street; `across` is counted from its middle to the left."""
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        across = across + self.middle
        return cos * along - sin * across, sin * along + cos * across

    def take(self, x: float, y: float, radius: float) -> bool:
        """Take a disc of the ground if it is free and does not hold the scanner."""
        if math.hypot(x, y) < radius + 2.5:
            return False
        if any(math.hypot(x - a, y - b) < radius + r for a, b, r in self._taken):
            return False
        self._taken.append((x, y, radius))
        return True


def furnish_street(rng: np.random.Generator, field: tuple[float, float, float, float]) -> Street:
    """A street with traffic, houses, trees, poles and bushes.

    Args:
        rng: Decides all of it.
        field: Least x, least y, largest x and largest y of where things to be found may be.
    """
    street = Street(rng)
    for name, (least, most) in _NUMBERS.items():
        for _ in range(rng.integers(least, most + 1)):
            _add_object(street, name, field)
    _add_houses(street)
    for add, number in ((_add_pole, 6), (_add_tree, 4), (_add_bush, 5), (_add_bin, 3)):
        for _ in range(rng.integers(number // 2, number + 1)):
            add(street)
    return street


def _add_object(street: Street, name: str, field: tuple[float, float, float, float]) -> None:
    """Put a car, cyclist or pedestrian where there is room for it, if there is."""
    rng = street.rng
    mean, deviation = _SIZES[name]
    size = np.array(mean) * (1 + np.array(deviation) / mean * rng.normal(0, 1, 3).clip(-2, 2))
    radius = 0.5 * math.hypot(size[0], size[1]) + 0.25
    for _ in range(_TRIES):
        across, yaw = _LANES[name](rng)
        # far enough to both sides for every field
        x, y = street.at(rng.uniform(-50, 50), across)
        x0, y0, x1, y1 = field
        if not (x0 + radius < x < x1 - radius and y0 + radius < y < y1 - radius):
            continue
        if street.take(x, y, radius):
            break
    else:
        return
    yaw = wrap_angle(yaw + street.heading)
    position = (x, y, street.ground(x, y))
    tag = street.new_tag(0.3, 0.85)
    _BUILDERS[name](street.scene.at(position, yaw), size, tag)
    street.objects.append(StreetObject(name, (*position, *size.tolist(), yaw), tag))


def _car_lane(rng: np.random.Generator) -> tuple[float, float]:
    kind, turned = rng.random(), math.pi * rng.integers(2)
    if kind < 0.4:  # driving, on the right
        across = rng.choice((-1.8, 1.8)) + rng.normal(0, 0.2)
        return across, (math.pi if across > 0 else 0) + rng.normal(0, 0.05)
    if kind < 0.8:  # parked at the kerb
        return rng.choice((-4.6, 4.6)) + rng.normal(0, 0.2), turned + rng.normal(0, 0.06)
    # in a yard
    return rng.choice((-1, 1)) * rng.uniform(6.5, 14), rng.uniform(-math.pi, math.pi)


def _cyclist_lane(rng: np.random.Generator) -> tuple[float, float]:
    across = rng.choice((-1, 1)) * rng.uniform(2.6, 7)
    return across, (math.pi if across > 0 else 0) + rng.normal(0, 0.15)


def _pedestrian_lane(rng: np.random.Generator) -> tuple[float, float]:
    if rng.random() < 0.2:  # crossing
        return rng.uniform(-6, 6), rng.choice((-1, 1)) * math.pi / 2 + rng.normal(0, 0.2)
    across = rng.choice((-1, 1)) * rng.uniform(6, 9)
    return across, math.pi * rng.integers(2) + rng.normal(0, 0.3)


def _build_car(place: Place, size: np.ndarray, tag: int) -> None:
    length, width, height = size
    place.add("box", (0, 0, 0.39 * height), (length, 0.98 * width, 0.4 * height), tag)
    # behind the middle: the bonnet is longer than the boot
    cabin = (0.5 * length, 0.86 * width, 0.41 * height)
    place.add("box", (-0.08 * length, 0, 0.795 * height), cabin, tag)
    screen = (0.66 * length, 0.8 * width, 0.2 * height)
    place.add("box", (-0.06 * length, 0, 0.69 * height), screen, tag)
    for sx in (-0.3, 0.31):
        for sy in (-1, 1):
            wheel = (0.16 * length, 0.13 * width, 0.4 * height)
            place.add("box", (sx * length, sy * 0.435 * width, 0.2 * height), wheel, tag)


def _build_pedestrian(place: Place, size: np.ndarray, tag: int) -> None:
    length, width, height = size
    for side in (-1, 1):
        step = side * (0.5 * length - 0.09)
        place.add(
            "cylinder", (0.6 * step, side * 0.1, 0.25 * height), (0.17, 0.17, 0.5 * height), tag
        )
        arm = (0.5 * length, 0.1, 0.13)
        place.add(
            "box", (-side * 0.25 * length, side * (0.5 * width - 0.05), 0.6 * height), arm, tag
        )
    trunk = (0.3, width - 0.16, 0.42 * height)
    place.add("cylinder", (0, 0, 0.66 * height), trunk, tag)
    place.add("ellipsoid", (0.02, 0, height - 0.13), (0.24, 0.22, 0.26), tag)


def _build_cyclist(place: Place, size: np.ndarray, tag: int) -> None:
    length, width, height = size
    for side in (-1, 1):
        place.add("cylinder", (0.02, side * 0.13, 0.33 * height), (0.2, 0.14, 0.36 * height), tag)
        place.add("box", (side * (0.5 * length - 0.33), 0, 0.33), (0.66, 0.06, 0.66), tag)
    place.add("box", (0, 0, 0.5), (0.6 * length, 0.06, 0.22), tag)
    place.add("box", (0.24 * length, 0, 0.58 * height), (0.08, width, 0.08), tag)
    place.add("box", (0.12 * length, 0, 0.68 * height), (0.28 * length, 0.8 * width, 0.1), tag)
    place.add("ellipsoid", (-0.04, 0, 0.7 * height), (0.4, 0.8 * width, 0.42 * height), tag)
    place.add("ellipsoid", (0.08, 0, height - 0.14), (0.26, 0.22, 0.28), tag)


def _add_houses(street: Street) -> None:
    """Fronts of houses, walls and fences on both sides, with gaps between them."""
    rng = street.rng
    for side in (-1, 1):
        across = side * rng.uniform(10.5, 17)
        along = -45.0
        while along < 45:
            length = rng.uniform(6, 14)
            high = rng.uniform(4, 8) if rng.random() < 0.7 else rng.uniform(1.0, 1.6)
            x, y = street.at(along + length / 2, across + side * rng.uniform(0, 1.5))
            center = (x, y, street.ground(x, y) + high / 2)
            thick = 1.0 if high > 2 else 0.25
            if _is_free(street, x, y, length, thick):
                tag = street.new_tag(0.25, 0.5)
                street.scene.add("box", center, (length, thick, high), tag, street.heading)
            along += length + (rng.uniform(2, 8) if rng.random() < 0.5 else 0)


def _is_free(street: Street, x: float, y: float, length: float, thick: float) -> bool:
    """Whether no taken disc touches a box along the street."""
    cos, sin = math.cos(street.heading), math.sin(street.heading)
    for a, b, radius in (*street._taken, (0.0, 0.0, 2.5)):
        along, across = cos * (a - x) + sin * (b - y), cos * (b - y) - sin * (a - x)
        if abs(along) < length / 2 + radius and abs(across) < thick / 2 + radius:
            return False
    return True


def _place(street: Street, low: float, high: float, radius: float) -> tuple[float, float] | None:
    """A free place beside the street, at this distance from its middle."""
    for _ in range(_TRIES):
        side = street.rng.choice((-1, 1))
        x, y = street.at(street.rng.uniform(-40, 40), side * street.rng.uniform(low, high))
        if street.take(x, y, radius):
            return x, y
    return None


def _add_pole(street: Street) -> None:
    if place := _place(street, 5.8, 6.6, 0.3):
        high, thick = street.rng.uniform(3, 6), street.rng.uniform(0.12, 0.25)
        _stand(street, "cylinder", place, (thick, thick, high), street.new_tag(0.4, 0.8))


def _add_tree(street: Street) -> None:
    if place := _place(street, 6.5, 12, 0.6):
        thick, crown = street.rng.uniform(0.25, 0.5), street.rng.uniform(2.5, 4)
        tag = street.new_tag(0.15, 0.3)
        _stand(street, "cylinder", place, (thick, thick, 3), tag)
        _stand(street, "ellipsoid", place, (crown, crown, 2.6), tag, bottom=2.2)


def _add_bush(street: Street) -> None:
    if place := _place(street, 7, 14, 1.3):
        size = street.rng.uniform((1.2, 1.2, 0.8), (2.4, 2.4, 1.5))
        tag = street.new_tag(0.1, 0.25)
        _stand(street, "ellipsoid", place, tuple(size), tag, bottom=-0.2)


def _add_bin(street: Street) -> None:
    if place := _place(street, 6, 9, 0.5):
        size = street.rng.uniform((0.5, 0.5, 0.8), (0.9, 0.8, 1.2))
        _stand(street, "box", place, tuple(size), street.new_tag(0.2, 0.6))


def _stand(
    street: Street,
    kind: str,
    place: tuple[float, float],
    size: tuple[float, float, float],
    tag: int,
    bottom: float = -0.05,
) -> None:
    center = (*place, street.ground(*place) + bottom + size[2] / 2)
    street.scene.add(kind, center, size, tag, street.rng.uniform(-math.pi, math.pi))


_LANES = {"Car": _car_lane, "Cyclist": _cyclist_lane, "Pedestrian": _pedestrian_lane}
_BUILDERS = {"Car": _build_car, "Cyclist": _build_cyclist, "Pedestrian": _build_pedestrian}
