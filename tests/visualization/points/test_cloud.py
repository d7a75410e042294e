"""Pictures of clouds, pixel by pixel: what is in front, what is left out, and where it lies."""

import numpy as np
import pytest

from mmeffvit.visualization.points import RoomExample, draw_cloud, draw_clouds, draw_room_sheet
from mmeffvit.visualization.points.cloud import camera_axes, estimate_spacing, inside_of_room
from mmeffvit.visualization.points.rooms import colour_labels, make_palette

RED, GREEN, BLUE = (200, 0, 0), (0, 180, 0), (0, 0, 200)


def _plate(z=0.0, side=2.0, spacing=0.05):
    x, y = np.meshgrid(*[np.arange(0, side, spacing)] * 2)
    return np.stack((x.ravel(), y.ravel(), np.full(x.size, z)), axis=1)


def _room(width=4.0, depth=3.0, height=2.5, spacing=0.05):
    """Points on six faces, and which face: floor, ceiling, then x = 0, x = width, y = 0, y = d."""
    u = {n: np.arange(0, length, spacing) for n, length in zip("xyz", (width, depth, height))}
    faces = []
    for axes, axis, at in (
        ("xy", 2, 0),
        ("xy", 2, height),
        ("yz", 0, 0),
        ("yz", 0, width),
        ("xz", 1, 0),
        ("xz", 1, depth),
    ):
        a, b = (g.ravel() for g in np.meshgrid(u[axes[0]], u[axes[1]]))
        points = np.empty((a.size, 3))
        points[:, "xyz".index(axes[0])], points[:, "xyz".index(axes[1])] = a, b
        points[:, axis] = at
        faces.append(points)
    return np.concatenate(faces), np.repeat(np.arange(6), [len(face) for face in faces])


def _near(picture, colour, slack=3):
    return (np.abs(np.asarray(picture, float) - colour) <= slack).all(-1)


def test_what_is_nearer_hides_what_is_farther():
    upper, lower = _plate(1.0, side=1.0) + (0.5, 0.5, 0), _plate(0.0)
    points = np.concatenate((lower, upper))
    colours = np.array([RED] * len(lower) + [GREEN] * len(upper))
    for order in (slice(None), slice(None, None, -1)):
        picture = draw_cloud(points[order], colours[order], (200, 200), 270, 90, open_room=False)
        red, green = _near(picture, RED), _near(picture, GREEN)
        # from above: a green square of half the side in the middle of a red one
        assert green[70:130, 70:130].all()
        assert green.sum() / (red | green).sum() == pytest.approx(0.25, abs=0.08)
        assert (red | green)[10:190, 10:190].mean() > 0.9
    # from below there is no green
    picture = draw_cloud(points, colours, (200, 200), 270, -90, open_room=False)
    assert not _near(picture, GREEN, 60).any()


def test_directions():
    right, up, towards = camera_axes(270, 90)
    # from above, with the camera's feet in the south: east is right and north is up
    assert right == pytest.approx((1, 0, 0), abs=1e-9)
    assert up == pytest.approx((0, 1, 0), abs=1e-9)
    assert towards == pytest.approx((0, 0, 1), abs=1e-9)
    points = np.concatenate((_plate(side=1.0), _plate(side=1.0) + (4, 0, 0)))
    colours = np.array([RED] * 400 + [BLUE] * 400)
    picture = draw_cloud(points, colours, (250, 50), 270, 90, open_room=False)
    assert np.nonzero(_near(picture, RED))[1].max() < 70
    assert np.nonzero(_near(picture, BLUE))[1].min() > 180


def test_the_ceiling_and_the_walls_in_front_are_left_out():
    points, face = _room()
    for azimuth, gone in ((225, {1, 2, 4}), (45, {1, 3, 5}), (135, {1, 2, 5})):
        kept = inside_of_room(points, camera_axes(azimuth, 45)[2])
        for number in range(6):
            inner = (np.abs(points - (2, 1.5, 1.25)) < (1.6, 1.1, 0.9))[face == number].sum(1) >= 2
            share = kept[face == number][inner].mean()
            assert share == (0 if number in gone else 1), (azimuth, number)
    colours = np.array([RED if f == 0 else BLUE if f == 1 else GREEN for f in face])
    closed = draw_cloud(points, colours, (160, 160), 235, 48, open_room=False)
    opened = draw_cloud(points, colours, (160, 160), 235, 48)
    assert _near(closed, BLUE).sum() > 1000
    assert not _near(closed, RED, 60).any()
    assert not _near(opened, BLUE, 60).any()
    assert _near(opened, RED).sum() > 1000


def test_all_colourings_show_the_same_points():
    points, _ = _room(spacing=0.1)
    one, other = draw_clouds(points, [[RED] * len(points), [BLUE] * len(points)], (120, 90))
    assert one.size == other.size == (120, 90)
    drawn = [(np.asarray(p) < 250).any(-1) for p in (one, other)]
    assert (drawn[0] == drawn[1]).all()
    assert 0.3 < drawn[0].mean() < 0.9


def test_spacing_is_that_of_the_points():
    assert estimate_spacing(_plate(spacing=0.05)) == pytest.approx(0.05)
    assert estimate_spacing(np.zeros((1, 3))) > 0
    picture = draw_cloud(np.zeros((1, 3)), [RED], (60, 40))
    assert _near(picture, RED).any()


def test_wrong_clouds():
    with pytest.raises(ValueError, match="at least one point"):
        draw_cloud(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(ValueError, match="as many colours"):
        draw_cloud(np.zeros((2, 3)), np.zeros((1, 3)))


def test_a_sheet_has_two_views_and_three_colourings_of_a_room():
    points, face = _room(spacing=0.1)
    truth = np.where(face == 0, 0, np.where(face == 1, 255, 1))
    found = np.where(face == 0, 1, truth)
    example = RoomExample(points, np.full(points.shape, 90.0), truth, found, "Area_5/office_1")
    sheet = draw_room_sheet([example], ("floor", "wall"), [RED, GREEN], panel=120, columns=2)
    pixels = np.asarray(sheet)
    top = 114
    for view in range(2):
        panels = [
            pixels[top : top + 110, 28 + view * (3 * 128 + 28) + 128 * i :][:, :120]
            for i in range(3)
        ]
        assert _near(panels[0], (90, 90, 90)).any()
        assert _near(panels[1], RED).sum() > 500
        assert _near(panels[1], GREEN).sum() > 500
        assert not _near(panels[2], RED, 60).any()
        assert _near(panels[2], GREEN).sum() > 1000


def test_colours_of_labels():
    colours = colour_labels(np.array([1, 0, 255, -1]), [RED, GREEN])
    assert colours[:2].tolist() == [list(GREEN), list(RED)]
    assert colours[2].tolist() == colours[3].tolist()
    assert colours[2].min() > 200
    palette = make_palette(200)
    assert len(set(palette)) > 190
    assert all(0 <= channel <= 255 for colour in palette for channel in colour)
