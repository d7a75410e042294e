"""Grounds of panoptic scenes: regions of different texture, each a class of stuff."""

import numpy as np

from mmeffvit.demo_data.digits import scenes

#: kinds of `scenes.field`, in its order
STUFF = ("gradient", "clouds", "stripes", "checks")
# of the darkest and the brightest of a region
_BRIGHTNESS = (0.3, 1.0)


def draw_ground(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two regions on either side of a wavy line.

    Returns:
        The image (H, W, 3), float32, 0 to 255, and which of `STUFF` each pixel is, (H, W), uint8.
    """
    y, x = np.mgrid[:height, :width].astype(np.float32) / min(height, width)
    angle = rng.uniform(0, 2 * np.pi)
    middle = np.array([height, width]) / min(height, width) / 2
    along = (y - middle[0]) * np.sin(angle) + (x - middle[1]) * np.cos(angle)
    across = (x - middle[1]) * np.sin(angle) - (y - middle[0]) * np.cos(angle)
    wave = rng.uniform(0.02, 0.08) * np.sin(across * rng.uniform(4, 10) + rng.uniform(0, 6))
    first = along > wave + rng.uniform(-0.2, 0.2)
    image = np.zeros((height, width, 3), np.float32)
    labels = np.zeros((height, width), np.uint8)
    for region, kind in zip((first, ~first), rng.choice(len(STUFF), 2, replace=False)):
        image[region] = _texture(rng, y, x, int(kind))[region]
        labels[region] = kind
    return image, labels


def _texture(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, kind: int) -> np.ndarray:
    """One colour, darker and brighter as one kind of field is: (H, W, 3)."""
    low, high = _BRIGHTNESS
    field = scenes.field(rng, y, x, kind)[..., None]
    image = scenes.draw_colour(rng).astype(np.float32) * (low + (high - low) * field)
    return scenes.darken(image)
