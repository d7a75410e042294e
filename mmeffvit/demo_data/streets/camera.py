"""The camera beside the scanner, and label files in its frame as KITTI has them."""

import dataclasses
import itertools
import math

import numpy as np

from mmeffvit.demo_data.ray_caster import turn
from mmeffvit.ops.points import wrap_angle

#: pixels; it sees 90 degrees
IMAGE_SIZE = (1242, 375)
_FOCAL = 621.0
_BASELINES = (0.0, -0.537, 0.06, -0.473)
#: scanner to camera: x right, y down, z forward, and a little tilted
_TILT, _OFFSET = math.radians(0.4), (-0.004, -0.076, -0.272)


@dataclasses.dataclass
class Label:
    """A line of a label file, with the box in the frame of the scanner.

    Attributes:
        name: Class.
        box: (7,), x, y, z of the middle of the bottom, length, width, height, yaw.
        num_points: Points on it.
        truncated: Share of it, from 0 to 1, that lies outside of the image.
        occluded: 0 if (almost) all that could be seen is seen, 1 for a part, 2 for little.
        image_box: (4,), left, top, right, bottom in pixels; -1 where the camera does not see it.
    """

    name: str
    box: np.ndarray
    num_points: int
    truncated: float
    occluded: int
    image_box: np.ndarray


def calibration() -> dict[str, np.ndarray]:
    """Matrices of the rig by their names in KITTI's files: P0 to P3 (3, 4), R0_rect (3, 3), ..."""
    width, height = IMAGE_SIZE
    matrices = {}
    for index, baseline in enumerate(_BASELINES):
        project = np.array(
            [[_FOCAL, 0, width / 2, _FOCAL * baseline], [0, _FOCAL, height / 2, 0], [0, 0, 1, 0]]
        )
        matrices[f"P{index}"] = project
    axes = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float)
    cos, sin = math.cos(_TILT), math.sin(_TILT)
    tilt = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    matrices["R0_rect"] = tilt.T
    matrices["Tr_velo_to_cam"] = np.column_stack((tilt @ tilt @ axes, _OFFSET))
    matrices["Tr_imu_to_velo"] = np.column_stack((np.eye(3), (-0.81, 0.32, -0.8)))
    return matrices


def to_camera(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) of the scanner's frame in that of the rectified camera."""
    matrices = calibration()
    to_cam = matrices["Tr_velo_to_cam"]
    return (points @ to_cam[:, :3].T + to_cam[:, 3]) @ matrices["R0_rect"].T


def image_box(box: np.ndarray) -> tuple[np.ndarray, float]:
    """What a box covers of the image, and the share of it that lies outside."""
    corners = itertools.product((-0.5, 0.5), (-0.5, 0.5), (0, 1))
    corners = turn((list(corners) * box[3:6]).T, box[6]).T + box[:3]
    seen = to_camera(corners)
    if seen[:, 2].min() < 0.2:
        return np.full(4, -1.0), 1.0
    project = calibration()["P2"]
    pixels = seen @ project[:, :3].T + project[:, 3]
    pixels = pixels[:, :2] / pixels[:, 2:]
    whole = np.concatenate((pixels.min(0), pixels.max(0)))
    last = np.array(IMAGE_SIZE * 2) - 1.0
    inside = whole.clip(0, last)
    area, left = ((b[2] - b[0]) * (b[3] - b[1]) for b in (whole, inside))
    if left <= 0:
        return np.full(4, -1.0), 1.0
    return inside, float(1 - left / area)


def label_line(label: Label) -> str:
    """A label as KITTI has it: class, truncation, occlusion, alpha, image box, h w l, x y z, ry."""
    image_box = " ".join(f"{v:.2f}" for v in label.image_box)
    if label.name == "DontCare":
        return f"DontCare -1 -1 -10 {image_box} -1 -1 -1 -1000 -1000 -1000 -10"
    length, width, height, yaw = label.box[3:]
    position = to_camera(label.box[None, :3])[0]
    rotation = wrap_angle(-yaw - math.pi / 2)
    alpha = wrap_angle(rotation - math.atan2(position[0], position[2]))
    numbers = " ".join(f"{v:.4f}" for v in (height, width, length, *position, rotation))
    return f"{label.name} {label.truncated:.2f} {label.occluded} {alpha:.2f} {image_box} {numbers}"
