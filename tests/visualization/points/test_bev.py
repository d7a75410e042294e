"""Sweeps from above, pixel by pixel, and which predictions count as found."""

import math

import numpy as np
import pytest

from mmeffvit.visualization.contact_sheet import WRONG
from mmeffvit.visualization.points import Boxes, SweepExample, draw_bev, draw_sweep_sheet
from mmeffvit.visualization.points.sweeps import class_colour, find_bounds, match_boxes

BOUNDS = (0.0, -20.0, 40.0, 20.0)
#: far from everything
POINTS = np.array([[39.5, -19.5, 0.0, 0.5], [39.5, -19.0, 3.0, 0.5]])
CAR = (20.0, 10.0, -1.7, 4.0, 2.0, 1.5, 0.0)


def _boxes(*rows, labels=None, scores=None):
    labels = np.zeros(len(rows), int) if labels is None else np.array(labels)
    scores = None if scores is None else np.array(scores)
    return Boxes(np.array(rows, float).reshape(-1, 7), labels, scores)


def _of(picture, colour, slack=2):
    """Rows and columns of the pixels of a colour."""
    return np.nonzero((np.abs(np.asarray(picture, int) - colour) <= slack).all(-1))


def test_forward_is_up_and_left_is_left():
    picture = draw_bev(POINTS, _boxes(CAR), bounds=BOUNDS, size=(400, 400))
    assert picture.size == (400, 400)
    rows, columns = _of(picture, class_colour(0))
    # 10 pixels a metre: x from 18 to 22, y from 9 to 11
    assert (rows.min(), rows.max()) == pytest.approx((180, 219), abs=3)
    assert (columns.min(), columns.max()) == pytest.approx((90, 109), abs=3)
    # the front is filled, and the back is not
    assert np.asarray(picture)[185, 100].tolist() == list(class_colour(0))
    assert np.asarray(picture)[210, 100].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("yaw", "row", "column"),
    [(0, 184, 100), (math.pi / 2, 200, 84), (math.pi, 216, 100), (-math.pi / 2, 200, 116)],
)
def test_fronts_are_where_boxes_head(yaw, row, column):
    picture = draw_bev(POINTS, _boxes((*CAR[:6], yaw)), bounds=BOUNDS, size=(400, 400))
    assert np.asarray(picture)[row, column].tolist() == list(class_colour(0))
    opposite = np.asarray(picture)[400 - row, 200 - column]
    assert opposite.tolist() == [255, 255, 255]


def test_high_points_are_dark_and_the_field_has_its_shape():
    picture = draw_bev(POINTS, _boxes(), bounds=(0, -20, 80, 20), size=(300, 300))
    assert picture.size == (150, 300)
    picture = np.asarray(draw_bev(POINTS, _boxes(), bounds=BOUNDS, size=(400, 400)))
    low, high = picture[3:8, 393:398].min(), picture[3:8, 388:393].min()
    assert high < low < 255
    assert find_bounds(np.array([[0.2, -19], [38, 18.5]])) == (0, -20, 40, 20)


def test_scores_and_missed_boxes():
    plain = np.asarray(draw_bev(POINTS, _boxes(CAR), bounds=BOUNDS))
    scored = np.asarray(draw_bev(POINTS, _boxes(CAR, scores=[0.87]), bounds=BOUNDS))
    different = np.nonzero((plain != scored).any(-1))
    assert len(different[0]) > 0
    assert different[1].min() > 110, "to the right of the box"
    missed = draw_bev(POINTS, _boxes(), bounds=BOUNDS, missed=_boxes(CAR))
    rows, _ = _of(missed, (150, 156, 164), 40)
    assert 20 < len(rows) < 250


def test_what_counts_as_found():
    truth = _boxes(CAR, (30, 0, 0, 4, 2, 1.5, 1), (10, -5, 0, 1, 1, 2, 0), labels=[0, 0, 1])
    found = _boxes(
        (20.2, 10, 0, 4, 2, 1.5, math.pi),  # the first, turned round
        (20.0, 10, 0, 4, 2, 1.5, 0),  # the first again
        (10, -5, 0, 1, 1, 2, 0),  # the third, of another class
        (30, 0.5, 0, 4, 2, 1.5, 1),  # the second, which counts neither way
        labels=[0, 0, 0, 0],
        scores=[0.9, 0.8, 0.7, 0.6],
    )
    example = SweepExample(POINTS, truth, found, ignored=np.array([False, True, False]))
    matches, skipped = match_boxes(found, example, 0.3)
    assert matches.tolist() == [0, -1, -1, 1]
    assert skipped.tolist() == [False, False, False, True]
    empty = SweepExample(POINTS, _boxes(), _boxes(scores=[]))
    assert len(match_boxes(empty.prediction, empty, 0.3)[0]) == 0


def test_sheet_shows_truth_and_prediction():
    truth = _boxes(CAR, (30, 0, 0, 4, 2, 1.5, 1))
    found = _boxes(CAR, (10, 0, 0, 4, 2, 1.5, 1), (35, 5, 0, 4, 2, 1.5, 1), scores=[0.9, 0.8, 0.1])
    example = SweepExample(POINTS, truth, found, "000007")
    sheet = draw_sweep_sheet([example] * 3, ("Car",), bounds=BOUNDS, panel=200, columns=2)
    pixels = np.asarray(sheet)
    left, right = (pixels[114:314, x : x + 200] for x in (28, 236))
    assert len(_of(left, class_colour(0))[0]) > 50
    assert not len(_of(left, WRONG)[0])
    assert len(_of(right, class_colour(0))[0]) > 25
    rows, _ = _of(right, WRONG)
    # the wrong box 10 m ahead, but not the one with a low score 35 m ahead
    assert 130 < rows.min() < rows.max() < 170
    with pytest.raises(ValueError, match="at least one example"):
        draw_sweep_sheet([], ("Car",))
