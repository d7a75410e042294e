"""Scenes of simple solids, and what a scanner in them sees: the ground of the demo data.

All solids stand upright: boxes, cylinders and ellipsoids that turn about the z axis. A ray ends at
the first surface that it meets, so what stands behind something else is not seen.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

_KINDS = ("box", "cylinder", "ellipsoid")
#: pairs of a ray and a solid that are looked at at once
_CHUNK = 2**21
_TINY = 1e-12

Triple = Sequence[float]


@dataclasses.dataclass
class Hits:
    """Where rays end.

    Attributes:
        distance: (R,), metres from the origin; infinite where a ray meets nothing.
        tag: (R,), int, the tag of what it meets, -1 for nothing.
        normal: (R, 3), unit normal of the surface, 0 for nothing.
    """

    distance: np.ndarray
    tag: np.ndarray
    normal: np.ndarray


class Scene:
    """Solids and planes, each with a tag, an integer that says what it is."""

    def __init__(self) -> None:
        self._solids: list[tuple] = []
        self._planes: list[tuple] = []

    def add(self, kind: str, center: Triple, size: Triple, tag: int, yaw: float = 0.0) -> None:
        """Put a solid into the scene.

        Args:
            kind: ``'box'``, ``'cylinder'`` (about a vertical axis) or ``'ellipsoid'``.
            center: x, y, z of its middle in metres.
            size: Its extent along its own x, y and z.
            tag: What rays that end on it report.
            yaw: Turn about z in radians, from +x towards +y.

        Raises:
            ValueError: There is no such kind, or a size is not positive.
        """
        if kind not in _KINDS:
            raise ValueError(f"a solid is one of {', '.join(_KINDS)}, not {kind!r}")
        if min(size) <= 0:
            raise ValueError(f"the size of a solid must be positive, got {tuple(size)}")
        self._solids.append((_KINDS.index(kind), *center, *size, yaw, tag))

    def add_plane(self, point: Triple, normal: Triple, tag: int) -> None:
        """Put an endless plane into the scene, which is seen from the side of its normal."""
        normal = np.asarray(normal, float)
        self._planes.append((np.asarray(point, float), normal / np.linalg.norm(normal), tag))

    def only(self, tag: int) -> "Scene":
        """What has this tag, and nothing else."""
        scene = Scene()
        scene._solids = [solid for solid in self._solids if solid[-1] == tag]
        scene._planes = [plane for plane in self._planes if plane[-1] == tag]
        return scene

    def at(self, position: Triple, yaw: float = 0.0) -> "Place":
        """A place to put the parts of an object, with coordinates of its own."""
        return Place(self, tuple(position), yaw)

    def cast(self, origin: Triple, directions: np.ndarray) -> Hits:
        """Follow rays from one point to the first surface they meet.

        A solid that holds the origin is not seen.

        Args:
            origin: x, y, z in metres.
            directions: (R, 3), unit vectors.
        """
        origin, count = np.asarray(origin, float), len(directions)
        hits = Hits(np.full(count, np.inf), np.full(count, -1), np.zeros((count, 3)))
        for point, normal, tag in self._planes:
            slope = directions @ normal
            distance = np.full(count, np.inf)
            np.divide((point - origin) @ normal, slope, out=distance, where=slope < -_TINY)
            nearer = (distance > 0) & (distance < hits.distance)
            hits.distance[nearer], hits.tag[nearer] = distance[nearer], tag
            hits.normal[nearer] = normal
        if self._solids:
            solids = np.array(self._solids, float).T
            step = max(1, _CHUNK // len(self._solids))
            for start in range(0, count, step):
                part = slice(start, start + step)
                _cast_at_solids(solids, origin, directions[part], hits, part)
        return hits

    def holds(self, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Whether each of (N, 3) points lies in the box of a solid, enlarged by a margin."""
        if not self._solids:
            return np.zeros(len(points), bool)
        solids = np.array(self._solids, float).T
        offset = points.T[:, :, None] - solids[1:4, None]
        local = np.abs(turn(offset, -solids[7]))
        return (local <= solids[4:7, None] / 2 + margin).all(0).any(1)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an object stands in a scene: its parts are given in coordinates of the object.

    Attributes:
        scene: The scene.
        position: x, y, z of the object's origin.
        yaw: Where its x axis points.
    """

    scene: Scene
    position: tuple[float, float, float]
    yaw: float = 0.0

    def add(self, kind: str, center: Triple, size: Triple, tag: int, yaw: float = 0.0) -> None:
        """Put a solid into the scene; arguments as in :meth:`Scene.add`."""
        self.scene.add(kind, self.point(center), size, tag, self.yaw + yaw)

    def point(self, local: Triple) -> tuple[float, float, float]:
        """A point of the object in coordinates of the scene."""
        (x, y, z), (x0, y0, z0) = local, self.position
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return x0 + cos * x - sin * y, y0 + sin * x + cos * y, z0 + z

    def at(self, local: Triple, yaw: float = 0.0) -> "Place":
        """A place within this one."""
        return Place(self.scene, self.point(local), self.yaw + yaw)


def turn(points: np.ndarray, yaw: float | np.ndarray) -> np.ndarray:
    """Points (3, ...) turned about z by an angle, from +x towards +y."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    x, y, z = points
    return np.stack((cos * x - sin * y, sin * x + cos * y, np.broadcast_to(z, np.shape(x))))


def _cast_at_solids(
    solids: np.ndarray, origin: np.ndarray, directions: np.ndarray, hits: Hits, part: slice
) -> None:
    """Let the solids (9, P) shorten those rays of `hits` that `part` chooses."""
    kind, center, half, yaw, tag = solids[0], solids[1:4], solids[4:7] / 2, solids[7], solids[8]
    towards = center - origin[:, None]
    ray, solid = _candidates(towards, np.linalg.norm(half, axis=0), directions)
    # in the solid's own frame, scaled so that it reaches from -1 to 1; distances stay what they are
    start = (turn(-towards, -yaw) / half)[:, solid]
    heading = turn(directions.T[:, ray], -yaw[solid]) / half[:, solid]
    heading[np.abs(heading) < _TINY] = _TINY
    distance = np.full(len(ray), np.inf)
    for index, enter in enumerate((_enter_box, _enter_cylinder, _enter_ellipsoid)):
        of_kind = np.flatnonzero(kind[solid] == index)
        if len(of_kind):
            distance[of_kind] = enter(start[:, of_kind], heading[:, of_kind])
    seen = np.flatnonzero(distance < hits.distance[part][ray])
    # the nearest last: of values written to one place, the last stays
    seen = seen[np.argsort(-distance[seen], kind="stable")]
    nearest = np.full(len(directions), -1)
    nearest[ray[seen]] = seen
    pair = nearest[nearest >= 0]
    ray, solid = ray[pair], solid[pair]
    normal = _normals(start[:, pair] + distance[pair] * heading[:, pair], kind[solid])
    normal = turn(normal / half[:, solid], yaw[solid])
    hits.distance[part][ray] = distance[pair]
    hits.tag[part][ray] = tag[solid]
    hits.normal[part][ray] = (normal / np.linalg.norm(normal, axis=0)).T


def _candidates(
    towards: np.ndarray, radius: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a ray and a solid whose bounding sphere it meets."""
    gap = np.maximum(np.linalg.norm(towards, axis=0), _TINY)
    # a ray meets the sphere if the angle to its middle is less than that to its rim
    rim = np.sqrt(np.clip(1 - (radius / gap) ** 2, 0, 1)) - 1e-9
    rim[gap <= radius] = -2
    return np.nonzero(directions @ (towards / gap) >= rim)


def _enter_box(start: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """Where rays (3, N) enter the cube from -1 to 1; infinite if they pass by or start inside."""
    enter, leave = _slab(start, heading)
    return _or_infinite(enter.max(0), leave.min(0))


def _enter_cylinder(start: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """The same with the upright cylinder of radius 1, from -1 to 1."""
    enter, leave = _round(start[:2], heading[:2])
    low, high = _slab(start[2], heading[2])
    return _or_infinite(np.maximum(enter, low), np.minimum(leave, high))


def _enter_ellipsoid(start: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """The same with the sphere of radius 1."""
    return _or_infinite(*_round(start, heading))


def _slab(start: np.ndarray, heading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave -1 to 1, along each axis."""
    a, b = (-1 - start) / heading, (1 - start) / heading
    return np.minimum(a, b), np.maximum(a, b)


def _round(start: np.ndarray, heading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave the unit circle or sphere; the other way round if they pass by."""
    a, b = (heading * heading).sum(0), (start * heading).sum(0)
    inside = b * b - a * ((start * start).sum(0) - 1)
    root = np.sqrt(np.maximum(inside, 0))
    missed = inside <= 0
    return np.where(missed, np.inf, (-b - root) / a), np.where(missed, -np.inf, (-b + root) / a)


def _or_infinite(enter: np.ndarray, leave: np.ndarray) -> np.ndarray:
    return np.where((enter > 0) & (enter < leave), enter, np.inf)


def _normals(points: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Directions outward (3, N) at points on the surface of solids from -1 to 1."""
    normals = points.copy()
    box, cylinder = kind == _KINDS.index("box"), kind == _KINDS.index("cylinder")
    size = np.abs(points)
    normals[:, box] *= (size == size.max(0))[:, box]
    lid = cylinder & (size[2] > np.hypot(size[0], size[1]))
    normals[:2, lid] = 0
    normals[2, cylinder & ~lid] = 0
    return normals
