"""Rays against solids: distances and normals by hand, and nothing is seen through anything."""

import math

import numpy as np
import pytest

from mmeffvit.demo_data import ray_caster as module
from mmeffvit.demo_data.ray_caster import Scene, turn

DOWN = np.array([[0.0, 0.0, -1.0]])


def _random_directions(count, seed=0):
    directions = np.random.default_rng(seed).normal(size=(count, 3))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("kind", "origin", "direction", "distance", "normal"),
    [
        ("box", (5, 0, 0), (-1, 0, 0), 4, (1, 0, 0)),
        ("box", (0, -9, 0.2), (0, 1, 0), 7, (0, -1, 0)),
        ("box", (0.5, 0.5, 8), (0, 0, -1), 5, (0, 0, 1)),
        ("cylinder", (-5, 0, 1), (1, 0, 0), 4, (-1, 0, 0)),
        ("cylinder", (0.3, 0.3, -8), (0, 0, 1), 5, (0, 0, -1)),
        ("ellipsoid", (0, 10, 0), (0, -1, 0), 8, (0, 1, 0)),
        ("ellipsoid", (0, 0, 10), (0, 0, -1), 7, (0, 0, 1)),
    ],
)
def test_by_hand(kind, origin, direction, distance, normal):
    scene = Scene()
    scene.add(kind, (0, 0, 0), (2, 4, 6), tag=7)
    hits = scene.cast(origin, np.array([direction], float))
    assert hits.distance[0] == pytest.approx(distance)
    assert hits.tag[0] == 7
    assert hits.normal[0] == pytest.approx(normal, abs=1e-9)
    # away from it, and past it
    assert scene.cast(origin, -np.array([direction], float)).tag[0] == -1
    assert scene.cast((9, 9, 9), np.array([direction], float)).tag[0] == -1


def test_turned_solids_are_solids_seen_from_elsewhere():
    yaw, origin, directions = 0.7, np.array((4.0, -3.0, 1.0)), _random_directions(4000)
    for kind in ("box", "cylinder", "ellipsoid"):
        straight, turned = Scene(), Scene()
        straight.add(kind, (0.5, 0, 0), (3, 1, 2), tag=0)
        turned.at((0, 0, 0), yaw).add(kind, (0.5, 0, 0), (3, 1, 2), tag=0)
        a = straight.cast(origin, directions)
        b = turned.cast(turn(origin, yaw), turn(directions.T, yaw).T)
        assert 20 < (a.tag == 0).sum() < 1000
        assert (a.tag == b.tag).all()
        seen = a.tag == 0
        assert a.distance[seen] == pytest.approx(b.distance[seen])
        assert pytest.approx(b.normal[seen]) == turn(a.normal[seen].T, yaw).T


def test_hits_lie_on_the_surface():
    scene = Scene()
    scene.add("ellipsoid", (1, 2, 3), (2, 3, 4), tag=0, yaw=0.4)
    directions = _random_directions(3000)
    hits = scene.cast((-2, 0, 3), directions)
    seen = hits.tag == 0
    points = np.array((-2, 0, 3)) + hits.distance[seen, None] * directions[seen]
    own = turn((points - (1, 2, 3)).T, -0.4).T / (1, 1.5, 2)
    assert np.linalg.norm(own, axis=1) == pytest.approx(np.ones(len(own)))
    # a surface is seen from its outer side
    assert ((hits.normal[seen] * directions[seen]).sum(1) < 0).all()


def test_the_nearest_is_seen(monkeypatch):
    rng = np.random.default_rng(1)
    scene, alone = Scene(), []
    for tag in range(12):
        one = Scene()
        kind = ("box", "cylinder", "ellipsoid")[tag % 3]
        what = (kind, rng.uniform(-4, 4, 3), rng.uniform(0.5, 2, 3), tag, rng.uniform(0, 6))
        scene.add(*what)
        one.add(*what)
        alone.append(one)
    scene.add_plane((0, 0, -3), (0, 0, 2), tag=12)
    alone.append(Scene())
    alone[-1].add_plane((0, 0, -3), (0, 0, 2), tag=12)
    for tag, one in enumerate(alone):
        only = scene.only(tag)
        assert (only._solids, len(only._planes)) == (one._solids, len(one._planes))
    directions = _random_directions(2000)
    hits = scene.cast((0, 0, 6), directions)
    each = np.stack([one.cast((0, 0, 6), directions).distance for one in alone])
    assert (hits.distance == each.min(0)).all()
    found = np.isfinite(hits.distance)
    assert (hits.tag[found] == each.argmin(0)[found]).all()
    assert (hits.tag[~found] == -1).all()
    assert len(np.unique(hits.tag)) > 8
    monkeypatch.setattr(module, "_CHUNK", 500)
    again = scene.cast((0, 0, 6), directions)
    assert (again.tag == hits.tag).all()
    assert (again.normal == hits.normal).all()


def test_planes_have_one_side_and_places_nest():
    scene = Scene()
    scene.add_plane((0, 0, 1), (0, 0, 1), tag=3)
    assert scene.cast((0, 0, 3), DOWN).distance[0] == pytest.approx(2)
    assert scene.cast((0, 0, 0), -DOWN).tag[0] == -1
    place = scene.at((1, 2, 3), math.pi / 2).at((1, 0, 0), math.pi / 2)
    assert place.position == pytest.approx((1, 3, 3))
    assert place.point((1, 1, 1)) == pytest.approx((0, 2, 4))


def test_holds():
    scene = Scene()
    assert not scene.holds(np.zeros((2, 3))).any()
    scene.add("box", (0, 0, 0), (4, 1, 1), tag=0, yaw=math.pi / 2)
    points = np.array([[0, 1.9, 0], [1.9, 0, 0], [0, 2.1, 0]])
    assert scene.holds(points).tolist() == [True, False, False]
    assert scene.holds(points, margin=0.2).tolist() == [True, False, True]


def test_wrong_solids():
    with pytest.raises(ValueError, match="box, cylinder, ellipsoid, not 'cone'"):
        Scene().add("cone", (0, 0, 0), (1, 1, 1), 0)
    with pytest.raises(ValueError, match="must be positive"):
        Scene().add("box", (0, 0, 0), (1, 0, 1), 0)
