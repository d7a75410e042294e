"""Small clouds and rooms."""

import numpy as np


def make_cloud(number=400, boxes=False, seed=0):
    """A results dict with everything a room has, and boxes if asked for."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(number, 3))
    cloud = {
        "coord": (rng.random((number, 3)) * (2, 1.5, 1) + (3, -2, 0.5)).astype(np.float32),
        "color": rng.integers(20, 200, (number, 3)).astype(np.float32),
        "normal": (normal / np.linalg.norm(normal, axis=1, keepdims=True)).astype(np.float32),
        "pts_semantic_mask": rng.integers(0, 13, number),
        "pts_instance_mask": np.arange(number),  # which point it was
    }
    if boxes:
        cloud["gt_bboxes_3d"] = np.array(
            [[4, -1, 0.5, 1, 0.6, 0.4, 0.3], [3.5, -1.5, 0.7, 0.2, 0.4, 0.3, -2]], np.float32
        )
        cloud["gt_labels_3d"] = np.array([2, 0])
    return cloud


def make_room(number=600, num_classes=13, seed=0):
    """The dict of a room's file, with S3DIS's and ScanNet's labels."""
    rng = np.random.default_rng(seed)
    room = {
        "coord": rng.random((number, 3)) * (1, 0.8, 0.6) - 0.3,
        "color": rng.integers(0, 256, (number, 3)).astype(np.uint8),
        "normal": np.tile([[0.0, 0.6, 0.8]], (number, 1)),
        "scene_id": "room",
        "instance_gt": rng.integers(0, 9, (number, 1)),
    }
    for key in ("semantic_gt", "semantic_gt20", "semantic_gt200"):
        labels = rng.integers(0, num_classes, (number, 1))
        labels[:5] = 255
        room[key] = labels
    return room
