"""Images of any type and number of channels, made fit to be seen."""

import numpy as np
import pytest

from mmeffvit.visualization.pixels import to_rgb


def test_ordinary_images_stay_as_they_are():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert (to_rgb(image) == image[..., ::-1]).all(), "loaders give BGR"
    assert (to_rgb(image.astype(np.float32)) == image[..., ::-1]).all()
    assert (to_rgb(image[..., 0]) == image[..., :1]).all(), "grey"
    assert (to_rgb(image[..., :2]) == image[..., :1]).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float64])
def test_other_ranges_are_stretched_channel_by_channel(dtype):
    image = np.stack([np.tile(np.arange(101) * 10 * (c + 1), (4, 1)) for c in range(5)], -1)
    picture = to_rgb(image.astype(dtype))
    assert picture.dtype == np.uint8
    assert picture.shape == (4, 101, 3)
    assert (picture[:, 0] == 0).all()
    assert (picture[:, 100] == 255).all()
    # from the 2nd to the 98th of 100 steps
    assert (picture[:, 50] == 128).all()


def test_what_is_not_a_number_does_no_harm():
    image = np.full((3, 3, 4), np.nan)
    assert (to_rgb(image) == 0).all()
    assert to_rgb(np.ones((3, 3, 1), np.float32)).shape == (3, 3, 3)
