"""Furnished rooms of simple solids, with the classes of S3DIS."""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np

from mmeffvit.datasets.points.rooms.datasets import S3DIS_METAINFO
from mmeffvit.demo_data.ray_caster import Place, Scene, Triple

ROOM_CLASSES = S3DIS_METAINFO["classes"]

# materials are shared between classes, so that a colour alone does not tell a class; but what is
# flush with a wall has another colour than walls have
_PALE = ((236, 234, 228), (222, 214, 198), (205, 214, 222), (214, 222, 206), (226, 206, 196))
_WOOD = ((176, 134, 92), (140, 98, 62), (202, 168, 126), (112, 78, 54))
_GREY = ((150, 152, 156), (112, 114, 118), (186, 188, 190), (78, 80, 84))
_BRIGHT = ((52, 92, 160), (164, 52, 48), (58, 122, 82), (206, 152, 46), (96, 62, 128))
_GLASS = ((70, 112, 164), (92, 136, 184), (56, 90, 138))
_MATERIALS = {
    "ceiling": _PALE[:3],
    "floor": _WOOD + _GREY[:3],
    "wall": _PALE,
    "beam": _WOOD + _GREY[:2],
    "column": _GREY + ((168, 152, 132),),
    "window": _GLASS,
    "door": (*_WOOD, (132, 84, 60), (96, 70, 52)),
    "table": _WOOD + _PALE[:1] + _GREY,
    "chair": _BRIGHT + _GREY + _WOOD[:2],
    "sofa": _BRIGHT + _GREY + _WOOD[1:2],
    "bookcase": _WOOD + _PALE[:1] + _GREY[:2],
    "board": ((42, 84, 62), (36, 66, 56), (52, 58, 62)),
    "clutter": _BRIGHT + _PALE + _GREY,
}
#: what a room may lack, at most two of these at once
_OPTIONAL = ("beam", "column", "window", "sofa", "bookcase", "board")
_WALL = 0.2
_TRIES = 60
_CORNERS = tuple(itertools.product((-1, 1), repeat=2))


class NoRoomLeftError(Exception):
    """What must stand in a room finds no place; with other random numbers it may."""


@dataclasses.dataclass(frozen=True)
class Surface:
    """What rays end on; the tag of a solid is its index in `Room.surfaces`.

    Attributes:
        label: Index into `ROOM_CLASSES`.
        instance: Number of the object.
        colour: RGB from 0 to 255.
    """

    label: int
    instance: int
    colour: tuple[float, float, float]


class Thing:
    """One object of a room while it is put together, in coordinates of its own."""

    def __init__(self, room: "Room", place: Place, name: str) -> None:
        self._room, self._place = room, place
        self._label, self._instance = ROOM_CLASSES.index(name), room.next_instance()
        self.colour = room.pick_colour(name)

    def box(
        self, center: Triple, size: Triple, colour: Triple | None = None, yaw: float = 0.0
    ) -> None:
        """Add a box; in the colour of the object if no other is given."""
        self._place.add("box", center, size, self._tag(colour), yaw)

    def cylinder(self, center: Triple, size: Triple, colour: Triple | None = None) -> None:
        """Add a cylinder; in the colour of the object if no other is given."""
        self._place.add("cylinder", center, size, self._tag(colour))

    def ellipsoid(self, center: Triple, size: Triple, colour: Triple | None = None) -> None:
        """Add an ellipsoid; in the colour of the object if no other is given."""
        self._place.add("ellipsoid", center, size, self._tag(colour))

    def _tag(self, colour: Triple | None) -> int:
        surface = Surface(self._label, self._instance, tuple(colour or self.colour))
        self._room.surfaces.append(surface)
        return len(self._room.surfaces) - 1


class Room:
    """An empty room and what is put into it; one corner of its floor is the origin.

    Attributes:
        size: Width along x, depth along y and height in metres.
        scene: Its solids.
        surfaces: What they are.
    """

    def __init__(self, rng: np.random.Generator, size: tuple[float, float, float]) -> None:
        self.rng = rng
        self.size = size
        self.scene = Scene()
        self.surfaces: list[Surface] = []
        self._instances = 0
        #: (x0, y0, x1, y1) on the floor, and (wall, start, end, low, high) on the walls
        self._floor: list[tuple[float, float, float, float]] = []
        self._walls: list[tuple[int, float, float, float, float]] = []

    def next_instance(self) -> int:
        """A number for one more object."""
        self._instances += 1
        return self._instances - 1

    def pick_colour(self, name: str) -> tuple[float, float, float]:
        """One of the colours that a class comes in, a little changed."""
        colours = _MATERIALS[name]
        colour = np.array(colours[self.rng.integers(len(colours))], float)
        colour = (colour * self.rng.uniform(0.85, 1.1) + self.rng.normal(0, 5, 3)).clip(5, 250)
        return tuple(colour.tolist())

    def thing(self, name: str, position: Triple = (0, 0, 0), yaw: float = 0.0) -> Thing:
        """A new object of a class."""
        return Thing(self, self.scene.at(position, yaw), name)

    def wall(self, index: int) -> tuple[Place, float]:
        """Frame of a wall's inner face (x along it, y into the room) and its length."""
        width, depth, _ = self.size
        corner = ((0, 0), (width, 0), (width, depth), (0, depth))[index]
        return self.scene.at((*corner, 0), index * math.pi / 2), (width, depth)[index % 2]

    def at_wall(
        self, length: float, depth: float, low: float, high: float, ends: float = 0.05
    ) -> tuple[int, float]:
        """Find and take a free stretch of a wall.

        Args:
            length: Along the wall.
            depth: Of the floor in front of it that must be free, and is taken; 0 leaves the floor.
            low: Where on the wall it begins, above the floor.
            high: Where it ends.
            ends: Distance from the corners.

        Returns:
            Number of the wall and the middle of the stretch.

        Raises:
            NoRoomLeftError: There is none.
        """
        for _ in range(_TRIES):
            index = int(self.rng.integers(4))
            place, whole = self.wall(index)
            slack = whole - length - 2 * ends
            if slack <= 0:
                continue
            start = ends + slack * self.rng.random()
            stretch = (index, start, start + length, low, high)
            if any(_overlaps_on_wall(stretch, other) for other in self._walls):
                continue
            if depth:
                near, far = place.point((start, 0, 0)), place.point((start + length, depth, 0))
                if not self.take_floor(near, far):
                    continue
            self._walls.append(stretch)
            return index, start + length / 2
        raise NoRoomLeftError

    def take_floor(self, corner: Triple, other: Triple) -> bool:
        """Take a rectangle of the floor if it is free and inside the room."""
        (x0, x1), (y0, y1) = (sorted((corner[i], other[i])) for i in (0, 1))
        if x0 < -0.01 or y0 < -0.01 or x1 > self.size[0] + 0.01 or y1 > self.size[1] + 0.01:
            return False
        if any(x0 < b[2] and b[0] < x1 and y0 < b[3] and b[1] < y1 for b in self._floor):
            return False
        self._floor.append((x0, y0, x1, y1))
        return True

    def openings(self, index: int) -> list[tuple[float, float, float, float]]:
        """Stretches of a wall that :func:`_build_walls` leaves open."""
        return sorted(w[1:] for w in self._walls if w[0] == index)


def furnish(rng: np.random.Generator, complete: bool = False) -> Room:
    """A room with everything in it.

    Args:
        rng: Decides all of it.
        complete: Have every class; otherwise up to two of those that a room can do without are
            left out.

    Raises:
        NoRoomLeftError: Something has no place in this room.
    """
    size = (rng.uniform(3.2, 5), rng.uniform(3, 4), rng.uniform(2.45, 2.85))
    room = Room(rng, size)
    left_out = [] if complete else rng.choice(_OPTIONAL, rng.integers(3), replace=False).tolist()
    wanted = [name for name in _OPTIONAL if name not in left_out]
    _add_door(room)
    if "window" in wanted:
        _add_window(room)
    _build_shell(room)
    for name, add in _FURNITURE.items():
        if name in wanted:
            add(room)
    if "bookcase" in wanted and rng.random() < 0.3:
        _maybe(_add_bookcase, room)
    _add_table(room)
    if rng.random() < 0.6:
        _maybe(_add_table, room)
    for _ in range(rng.integers(1, 3)):
        _maybe(_add_spare_chair, room)
    for _ in range(rng.integers(2, 5)):
        _maybe(_add_floor_clutter, room)
    _add_lamps(room)
    return room


def _maybe(add: Callable[[Room], None], room: Room) -> None:
    with contextlib.suppress(NoRoomLeftError):
        add(room)


def _overlaps_on_wall(a: tuple, b: tuple, gap: float = 0.08) -> bool:
    along = a[1] < b[2] + gap and b[1] < a[2] + gap
    return a[0] == b[0] and along and a[3] < b[4] and b[3] < a[4]


def _build_shell(room: Room) -> None:
    """Floor, ceiling and walls with holes where doors and windows are."""
    width, depth, height = room.size
    outer = (width + 2 * _WALL, depth + 2 * _WALL, _WALL)
    room.thing("floor").box((width / 2, depth / 2, -_WALL / 2), outer)
    room.thing("ceiling").box((width / 2, depth / 2, height + _WALL / 2), outer)
    colour = room.pick_colour("wall")
    for index in range(4):
        place, length = room.wall(index)
        wall = Thing(room, place, "wall")
        if room.rng.random() < 0.8:  # one wall in another colour
            wall.colour = colour
        x = -_WALL
        for start, end, low, high in (*room.openings(index), (length + _WALL,) * 2 + (0, 0)):
            pieces = [(x, start, 0, height), (start, end, 0, low), (start, end, high, height)]
            for x0, x1, z0, z1 in pieces:
                if x1 - x0 > 1e-6 and z1 - z0 > 1e-6:
                    middle = ((x0 + x1) / 2, -_WALL / 2, (z0 + z1) / 2)
                    wall.box(middle, (x1 - x0, _WALL, z1 - z0))
            x = end


def _add_door(room: Room) -> None:
    width, height = room.rng.uniform(0.8, 0.95), room.rng.uniform(1.98, 2.08)
    index, middle = room.at_wall(width, 0.7, 0, height, ends=0.15)
    door = Thing(room, room.wall(index)[0].at((middle, 0, 0)), "door")
    door.box((0, -0.1, height / 2), (width, 0.05, height))
    for side in (-1, 1):  # a frame that stands out of the wall
        door.box((side * width / 2, -0.02, height / 2), (0.09, 0.1, height))
    door.box((0, -0.02, height), (width + 0.09, 0.1, 0.09))
    knob = room.rng.choice((-1, 1)) * (width / 2 - 0.14)
    door.box((knob, -0.035, 1.02), (0.14, 0.08, 0.05), (90, 90, 92))


def _add_window(room: Room) -> None:
    width, low = room.rng.uniform(1.1, 1.7), room.rng.uniform(0.85, 1.0)
    high = min(low + room.rng.uniform(1.0, 1.3), room.size[2] - 0.3)
    index, middle = room.at_wall(width, 0, low, high, ends=0.25)
    window = Thing(room, room.wall(index)[0].at((middle, 0, 0)), "window")
    centre, tall = (low + high) / 2, high - low
    frame = room.pick_colour("window")
    window.box((0, -0.17, centre), (width, 0.02, tall))
    for x in (-width / 2 + 0.03, 0, width / 2 - 0.03):
        window.box((x, -0.13, centre), (0.06, 0.06, tall), frame)
    for z in (low + 0.03, high - 0.03):
        window.box((0, -0.13, z), (width, 0.06, 0.06), frame)
    window.box((0, 0.0, low - 0.02), (width + 0.1, 0.24, 0.04), frame)  # the sill


def _add_board(room: Room) -> None:
    width, low = room.rng.uniform(1.2, 1.7), room.rng.uniform(0.9, 1.05)
    high = low + room.rng.uniform(0.85, 1.0)
    index, middle = room.at_wall(width, 0, low - 0.05, high + 0.05, ends=0.15)
    board = Thing(room, room.wall(index)[0].at((middle, 0, 0)), "board")
    rim = room.pick_colour("beam")
    board.box((0, 0.04, (low + high) / 2), (width, 0.08, high - low))
    for z in (low, high):
        board.box((0, 0.05, z), (width + 0.06, 0.1, 0.05), rim)
    board.box((0, 0.09, low), (width * 0.8, 0.14, 0.03), rim)  # where the chalk lies


def _add_bookcase(room: Room) -> None:
    width, depth = room.rng.uniform(0.9, 1.4), room.rng.uniform(0.28, 0.36)
    height = room.rng.uniform(1.6, 2.05)
    index, middle = room.at_wall(width, depth + 0.15, 0, height)
    case = Thing(room, room.wall(index)[0].at((middle, 0.01, 0)), "bookcase")
    board = 0.03
    case.box((0, 0.01, height / 2), (width, 0.02, height))
    columns = 1 if width < 1.1 else 2
    for x in np.linspace(-width / 2 + board / 2, width / 2 - board / 2, columns + 1):
        case.box((x, depth / 2, height / 2), (board, depth, height))
    levels = np.linspace(0.06, height - board / 2, round(height / 0.36) + 1)
    for z in levels:
        case.box((0, depth / 2, z), (width, depth, board))
    inner = width / columns - board
    for low, high in itertools.pairwise(levels):
        for column in range(columns):
            left = -width / 2 + board + column * (inner + board)
            x = left + room.rng.uniform(0, 0.1)
            while x < left + inner - 0.12:  # rows of books in blocks of one colour
                block = min(room.rng.uniform(0.1, 0.3), left + inner - x - 0.01)
                if room.rng.random() < 0.75:
                    tall = (high - low - board) * room.rng.uniform(0.55, 0.9)
                    size = (block, depth * room.rng.uniform(0.55, 0.8), tall)
                    at = (x + block / 2, 0.02 + size[1] / 2, low + board / 2 + tall / 2)
                    case.box(at, size, room.pick_colour("clutter"))
                x += block


def _add_sofa(room: Room) -> None:
    width, depth = room.rng.uniform(1.4, 1.9), room.rng.uniform(0.75, 0.85)
    seat, back = room.rng.uniform(0.4, 0.45), room.rng.uniform(0.74, 0.82)
    index, middle = room.at_wall(width, depth + 0.2, 0, back)
    sofa = Thing(room, room.wall(index)[0].at((middle, 0.04, 0)), "sofa")
    arm = 0.17
    sofa.box((0, depth / 2, 0.05 + seat / 2 - 0.05), (width, depth, seat - 0.1))
    sofa.box((0, 0.11, (0.1 + back) / 2), (width, 0.22, back - 0.1))
    for side in (-1, 1):
        at = (side * (width - arm) / 2, depth / 2, 0.05 + 0.28)
        sofa.box(at, (arm, depth, 0.56))
        cushion = ((width - 2 * arm) / 2 - 0.02, depth - 0.24, 0.13)
        sofa.box((side * (width - 2 * arm) / 4, 0.23 + cushion[1] / 2, seat), cushion)


def _add_column(room: Room) -> None:
    side, height = room.rng.uniform(0.28, 0.4), room.size[2]
    index, middle = room.at_wall(side, side + 0.25, 0, height, ends=0.3)
    column = Thing(room, room.wall(index)[0].at((middle, side / 2 + 0.2, height / 2)), "column")
    if room.rng.random() < 0.5:
        column.cylinder((0, 0, 0), (side, side, height))
    else:
        column.box((0, 0, 0), (side, side, height))


def _add_beam(room: Room) -> None:
    width, depth, height = room.size
    thick, drop = room.rng.uniform(0.22, 0.32), room.rng.uniform(0.24, 0.32)
    share = room.rng.uniform(0.25, 0.75)
    beam = room.thing("beam")
    if room.rng.random() < 0.5:
        beam.box((width / 2, share * depth, height - drop / 2), (width, thick, drop))
    else:
        beam.box((share * width, depth / 2, height - drop / 2), (thick, depth, drop))


def _add_table(room: Room) -> None:
    width, depth = room.rng.uniform(1.0, 1.5), room.rng.uniform(0.65, 0.8)
    height = room.rng.uniform(0.7, 0.76)
    yaw = float(room.rng.choice((0, math.pi / 2)) + room.rng.uniform(-0.12, 0.12))
    sides = (-1, 1) if room.rng.random() < 0.6 else (1,)
    reach = (len(sides) == 2) * 0.45
    for _ in range(_TRIES):
        x, y = room.rng.uniform(0, room.size[0]), room.rng.uniform(0, room.size[1])
        place = room.scene.at((x, y, 0), yaw)
        edges = {-1: -depth / 2 - max(reach, 0.05), 1: depth / 2 + 0.45}
        corners = [place.point((sx * (width / 2 + 0.05), edges[sy], 0)) for sx, sy in _CORNERS]
        corners = np.array(corners)
        if room.take_floor(corners.min(0), corners.max(0)):
            break
    else:
        raise NoRoomLeftError
    table = Thing(room, place, "table")
    top, leg = 0.04, 0.06
    table.box((0, 0, height - top / 2), (width, depth, top))
    if room.rng.random() < 0.75:
        for sx, sy in _CORNERS:
            at = (sx * (width / 2 - leg), sy * (depth / 2 - leg), (height - top) / 2)
            table.box(at, (leg, leg, height - top))
    else:  # a desk, with panels for legs
        for sx in (-1, 1):
            at = (sx * (width / 2 - 0.03), 0, (height - top) / 2)
            table.box(at, (0.04, depth * 0.9, height - top))
    for side in sides:
        places = (-0.28, 0.28) if width > 1.2 and room.rng.random() < 0.6 else (0.0,)
        for offset in places:
            shift = offset * width / 1.2 + room.rng.uniform(-0.05, 0.05)
            at = (shift, side * (depth / 2 + room.rng.uniform(0.12, 0.25)), 0)
            # a chair faces its -y
            turned = (0 if side > 0 else math.pi) + room.rng.uniform(-0.3, 0.3)
            _build_chair(room, place.at(at, turned))
    for _ in range(room.rng.integers(2, 5)):
        x, y = room.rng.uniform(-0.42, 0.42) * width, room.rng.uniform(-0.38, 0.38) * depth
        at = (x, y, height)
        _build_small_clutter(room, place.at(at, room.rng.uniform(-math.pi, math.pi)))


def _build_chair(room: Room, place: Place) -> None:
    chair = Thing(room, place, "chair")
    side, seat, top = room.rng.uniform(0.4, 0.46), room.rng.uniform(0.42, 0.48), 0.9
    chair.box((0, 0, seat), (side, side, 0.06))
    dark = room.pick_colour("chair")
    if room.rng.random() < 0.6:
        for sx, sy in _CORNERS:
            at = (sx * (side / 2 - 0.025), sy * (side / 2 - 0.025), seat / 2)
            chair.box(at, (0.045, 0.045, seat), dark)
    else:  # on a column and a cross
        chair.cylinder((0, 0, seat / 2 + 0.02), (0.07, 0.07, seat - 0.04), dark)
        for yaw in (0, math.pi / 2):
            chair.box((0, 0, 0.05), (side * 1.15, 0.06, 0.06), dark, yaw)
    top = top + room.rng.uniform(-0.06, 0.06)
    chair.box((0, side / 2 - 0.025, (seat + 0.1 + top) / 2), (side, 0.05, top - seat - 0.1))
    for sx in (-1, 1):
        chair.box((sx * side * 0.35, side / 2 - 0.025, seat + 0.06), (0.04, 0.04, 0.14), dark)


def _add_spare_chair(room: Room) -> None:
    index, middle = room.at_wall(0.5, 0.55, 0, 0.95)
    # its back is to the wall
    place = room.wall(index)[0].at((middle, 0.28, 0), math.pi + room.rng.uniform(-0.3, 0.3))
    _build_chair(room, place)


def _build_small_clutter(room: Room, place: Place) -> None:
    thing, kind = Thing(room, place, "clutter"), room.rng.integers(4)
    if kind == 0:  # a screen
        thing.box((0, 0, 0.25), (0.5, 0.05, 0.3))
        thing.box((0, 0, 0.05), (0.18, 0.14, 0.1))
    elif kind == 1:  # a pile of books
        height = room.rng.uniform(0.1, 0.25)
        thing.box((0, 0, height / 2), (0.22, 0.3, height))
    elif kind == 2:  # a vase
        height = room.rng.uniform(0.18, 0.3)
        thing.cylinder((0, 0, height / 2), (0.13, 0.13, height))
    else:  # a lamp
        thing.cylinder((0, 0, 0.15), (0.05, 0.05, 0.3))
        thing.ellipsoid((0, 0, 0.36), (0.26, 0.26, 0.2))


def _add_floor_clutter(room: Room) -> None:
    index, middle = room.at_wall(0.45, 0.45, 0, 0.6)
    place = room.wall(index)[0].at((middle, 0.22, 0), room.rng.uniform(-0.5, 0.5))
    thing, kind = Thing(room, place, "clutter"), room.rng.integers(3)
    if kind == 0:  # a bin
        height = room.rng.uniform(0.3, 0.45)
        thing.cylinder((0, 0, height / 2), (0.3, 0.3, height))
    elif kind == 1:  # a cardboard box
        size = room.rng.uniform((0.28, 0.25, 0.22), (0.4, 0.38, 0.42))
        thing.box((0, 0, size[2] / 2), size)
    else:  # a plant
        thing.cylinder((0, 0, 0.14), (0.26, 0.26, 0.28))
        green = (66 + 30 * room.rng.random(), 120 + 40 * room.rng.random(), 60)
        thing.ellipsoid((0, 0, 0.55), (0.42, 0.42, 0.62), green)


def _add_lamps(room: Room) -> None:
    width, depth, height = room.size
    for share in (0.3, 0.7)[: room.rng.integers(1, 3)]:
        at = (share * width, depth * room.rng.uniform(0.35, 0.65), height)
        lamp = room.thing("clutter", at)
        drop = room.rng.uniform(0.45, 0.6)
        lamp.cylinder((0, 0, -drop / 2), (0.04, 0.04, drop))
        lamp.ellipsoid((0, 0, -drop), (0.4, 0.4, 0.22))


# in the order in which they look for a place, the most demanding first
_FURNITURE = {
    "sofa": _add_sofa,
    "bookcase": _add_bookcase,
    "column": _add_column,
    "board": _add_board,
    "beam": _add_beam,
}
