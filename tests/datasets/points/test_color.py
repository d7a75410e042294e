"""Transforms of colours, against their formulas."""

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS

from tests.datasets.points.clouds import make_cloud


def run(name, color, **kwargs):
    results = {"color": np.asarray(color, np.float32)}
    return TRANSFORMS.build({"type": f"mmeffvit.{name}", **kwargs})(results)["color"]


def test_normalisation():
    color = [[0, 127.5, 255], [300, -3, 51]]
    plain = run("NormalizePointsColor", color, clip=(0, 1))
    np.testing.assert_allclose(plain, [[0, 0.5, 1], [1, 0, 0.2]], atol=1e-6)
    centred = run("NormalizePointsColor", color[:1], color_mean=127.5, color_std=127.5)
    np.testing.assert_allclose(centred, [[-1, 0, 1]], atol=1e-6)
    per_channel = run("NormalizePointsColor", [[10, 20, 30]], color_mean=[0, 10, 20], color_std=10)
    np.testing.assert_allclose(per_channel, [[1, 1, 1]], atol=1e-6)


def test_dropping():
    assert not run("RandomDropPointsColor", np.ones((5, 3)), drop_ratio=1).any()
    assert (run("RandomDropPointsColor", np.ones((5, 3)), drop_ratio=0) == 1).all()


def test_auto_contrast_mixes_with_stretched_channels():
    color = [[50, 10, 7], [100, 10, 9], [150, 10, 8]]
    stretched = [[0, 10, 0], [127.5, 10, 255], [255, 10, 127.5]]  # one value cannot be stretched
    found = run("ChromaticAutoContrast", color, prob=1, blend=1)
    np.testing.assert_allclose(found, stretched, atol=1e-4)
    half = run("ChromaticAutoContrast", color, prob=1, blend=0.25)
    np.testing.assert_allclose(half, np.multiply(color, 0.75) + np.multiply(stretched, 0.25))
    shares = [(run("ChromaticAutoContrast", color, prob=1)[0, 0] - 50) / -50 for _ in range(100)]
    assert 0 <= min(shares) < 0.1 < 0.9 < max(shares) <= 1


def test_shift_is_the_same_for_all_points():
    color = make_cloud()["color"]  # 20 to 199: 5 % more or less stay in 0..255
    shifts = np.stack(
        [run("ChromaticTranslation", color, prob=1, ratio=0.05) - color for _ in range(200)]
    )
    assert np.ptp(shifts, axis=1).max() < 1e-4
    assert 0.95 * 12.75 < np.abs(shifts).max() <= 12.7501
    clipped = run("ChromaticTranslation", [[0, 255, 0], [255, 0, 255]], prob=1, ratio=1)
    assert (clipped.min(), clipped.max()) == (0, 255)


def test_jitter_of_colours():
    noise = run("ChromaticJitter", np.full((20000, 3), 128), prob=1, std=0.05) - 128
    assert noise.std(0) == pytest.approx([12.75] * 3, rel=0.03)
    assert abs(noise.mean()) < 0.3
    clipped = run("ChromaticJitter", np.full((200, 3), 250), prob=1, std=0.5)
    assert (clipped.min(), clipped.max()) == (0, 255)


@pytest.mark.parametrize(
    "name", ["ChromaticAutoContrast", "ChromaticTranslation", "ChromaticJitter"]
)
def test_probability(name):
    color = make_cloud(9)["color"]
    assert (run(name, color, prob=0) == color).all()
    changed = [(run(name, color, prob=0.5) != color).any() for _ in range(400)]
    assert np.mean(changed) == pytest.approx(0.5, abs=0.08)


def test_errors():
    step = TRANSFORMS.build({"type": "mmeffvit.ChromaticJitter"})
    with pytest.raises(KeyError, match=r"no color \(a\.pth\)"):
        step({"coord": np.zeros((1, 3)), "lidar_path": "a.pth"})
    for name, kwargs in (
        ("NormalizePointsColor", {"color_std": 0}),
        ("NormalizePointsColor", {"clip": (1, 0)}),
        ("RandomDropPointsColor", {"drop_ratio": 1.2}),
        ("ChromaticAutoContrast", {"blend": 2}),
        ("ChromaticTranslation", {"ratio": -0.1}),
        ("ChromaticJitter", {"std": -1}),
    ):
        with pytest.raises(ValueError, match="must"):
            run(name, [[0, 0, 0]], **kwargs)
