"""Transforms of colours; ``color`` is (N, 3) float32, 0 to 255 until `NormalizePointsColor`.

The chromatic ones are those of Choy et al., 4D Spatio-Temporal ConvNets (arXiv 1904.08755, code for
ScanNet), which the recipes of rooms have used since.
"""

# ruff: noqa: NPY002 (the global generator is the one that mmengine seeds in every worker)

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmeffvit.datasets.points.base import (
    PointTransform,
    check_probability,
    check_range,
    source_of,
)
from mmeffvit.registry import TRANSFORMS


def _color_of(results: dict) -> np.ndarray:
    if "color" not in results:
        raise KeyError(
            f"the sample has no color{source_of(results)}; load it, or leave the transforms of "
            "colours out"
        )
    return results["color"]


@TRANSFORMS.register_module()
class NormalizePointsColor(PointTransform):
    """``(color - color_mean) / color_std``; mmdet3d's transform of that name divides by 255.

    Args:
        color_mean: Taken off, one number or one per channel.
        color_std: Divided by.
        clip: Smallest and largest result, or None.
    """

    def __init__(
        self,
        color_mean: float | Sequence[float] = 0.0,
        color_std: float | Sequence[float] = 255.0,
        clip: Sequence[float] | None = None,
    ):
        if not np.all(np.asarray(color_std) > 0):
            raise ValueError(f"color_std must be positive, got {color_std}")
        self.color_mean = color_mean
        self.color_std = color_std
        self.clip = None if clip is None else check_range(clip, "clip")

    def transform(self, results: dict) -> dict:
        mean = np.asarray(self.color_mean, np.float32)
        color = (_color_of(results) - mean) / np.asarray(self.color_std, np.float32)
        results["color"] = color if self.clip is None else color.clip(*self.clip)
        return results


@TRANSFORMS.register_module()
class RandomDropPointsColor(PointTransform):
    """Now and then, set the colours of all points to 0; mmdet3d's transform of that name.

    Args:
        drop_ratio: Probability.
    """

    def __init__(self, drop_ratio: float = 0.2):
        self.drop_ratio = check_probability(drop_ratio, "drop_ratio")

    def transform(self, results: dict) -> dict:
        if np.random.random() < self.drop_ratio:
            results["color"] = np.zeros_like(_color_of(results))
        return results


@TRANSFORMS.register_module()
class ChromaticAutoContrast(PointTransform):
    """Now and then, stretch every channel to 0..255 and mix that with what was.

    Args:
        prob: Probability.
        blend: Share of the stretched colours; drawn from 0..1 if None.
    """

    def __init__(self, prob: float = 0.2, blend: float | None = None):
        self.prob = check_probability(prob)
        self.blend = blend if blend is None else check_probability(blend, "blend")

    def transform(self, results: dict) -> dict:
        color = _color_of(results)
        if np.random.random() < self.prob and len(color):
            low, high = color.min(0), color.max(0)
            spread = high - low
            # a channel that is the same everywhere cannot be stretched
            factor = np.where(spread > 0, 255 / np.where(spread > 0, spread, 1), 1)
            stretched = np.where(spread > 0, (color - low) * factor, color)
            blend = np.random.random() if self.blend is None else self.blend
            results["color"] = ((1 - blend) * color + blend * stretched).astype(np.float32)
        return results


@TRANSFORMS.register_module()
class ChromaticTranslation(PointTransform):
    """Now and then, add one colour to all points; what leaves 0..255 is clipped.

    Args:
        prob: Probability.
        ratio: A channel changes by at most this share of 255, up or down.
    """

    def __init__(self, prob: float = 0.95, ratio: float = 0.05):
        self.prob = check_probability(prob)
        self.ratio = check_probability(ratio, "ratio")

    def transform(self, results: dict) -> dict:
        color = _color_of(results)
        if np.random.random() < self.prob:
            shift = np.random.uniform(-1, 1, size=3) * 255 * self.ratio
            results["color"] = (color + shift).clip(0, 255).astype(np.float32)
        return results


@TRANSFORMS.register_module()
class ChromaticJitter(PointTransform):
    """Now and then, add noise to every point's colour; what leaves 0..255 is clipped.

    Args:
        prob: Probability.
        std: Standard deviation as a share of 255.
    """

    def __init__(self, prob: float = 0.95, std: float = 0.05):
        if std < 0:
            raise ValueError(f"std must not be negative, got {std}")
        self.prob = check_probability(prob)
        self.std = std

    def transform(self, results: dict) -> dict:
        color = _color_of(results)
        if np.random.random() < self.prob:
            noise = np.random.normal(scale=self.std * 255, size=color.shape)
            results["color"] = (color + noise).clip(0, 255).astype(np.float32)
        return results
