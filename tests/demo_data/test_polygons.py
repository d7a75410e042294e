"""Polygons against the bitmaps they were traced from, rasterised by pycocotools."""

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from mmeffvit.demo_data.digits.polygons import (
    mask_extent,
    mask_iou,
    mask_to_counts,
    mask_to_polygons,
    polygons_to_mask,
)

_Y, _X = np.mgrid[:48, :56]


def _disc(y, x, radius):
    return (_Y - y) ** 2 + (_X - x) ** 2 < radius**2


_SHAPES = {
    "disc": _disc(20, 25, 12),
    "ring": _disc(24, 28, 20) & ~_disc(24, 28, 9),
    "two holes": _disc(24, 28, 23) & ~_disc(14, 28, 6) & ~_disc(35, 28, 7),
    "two parts": _disc(12, 12, 9) | _disc(34, 40, 11),
    "ring in a ring": (_disc(24, 28, 22) & ~_disc(24, 28, 16)) | _disc(24, 28, 9),
    "at the border": _disc(0, 55, 20),
    "whole image": np.ones((48, 56), bool),
}


@pytest.mark.parametrize("name", _SHAPES)
def test_polygons_fill_to_the_mask(name):
    mask = _SHAPES[name]
    filled = polygons_to_mask(mask_to_polygons(mask), *mask.shape)
    assert mask_iou(filled, mask) > 0.97


def test_hole_stays_open():
    ring = _SHAPES["ring"]
    polygons = mask_to_polygons(ring)
    assert len(polygons) == 1
    assert not polygons_to_mask(polygons, *ring.shape)[24, 28]


def test_polygons_are_valid_for_coco():
    for mask in _SHAPES.values():
        for polygon in mask_to_polygons(mask):
            assert len(polygon) >= 6
            assert len(polygon) % 2 == 0
            assert min(polygon) >= 0
            assert max(polygon[::2]) <= mask.shape[1]
            assert max(polygon[1::2]) <= mask.shape[0]


def test_empty_mask_has_no_polygon():
    empty = np.zeros((10, 12), bool)
    assert mask_to_polygons(empty) == []
    assert not polygons_to_mask([], 10, 12).any()
    assert mask_extent(empty) == (0, 0, 0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_pycocotools(seed):
    mask = np.random.default_rng(seed).random((13, 17)) < 0.4
    mask[0, 0] = seed == 1  # the first run is of zeros, also if there are none
    rle = mask_to_counts(mask)
    assert sum(rle["counts"]) == mask.size
    decoded = mask_utils.decode(mask_utils.frPyObjects(rle, *mask.shape))
    np.testing.assert_array_equal(decoded.astype(bool), mask)


def test_extent_is_tight():
    mask = np.zeros((20, 30), bool)
    mask[4:9, 11:23] = True
    assert mask_extent(mask) == (4, 11, 9, 23)
