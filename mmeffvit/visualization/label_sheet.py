"""A contact sheet of samples with their labels, before anything has been trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmeffvit.visualization.contact_sheet import Objects, draw_objects
from mmeffvit.visualization.pixels import to_rgb
from mmeffvit.visualization.points.cloud import draw_cloud, draw_clouds
from mmeffvit.visualization.points.rooms import colour_labels, make_palette
from mmeffvit.visualization.points.sweeps import Boxes, class_colour, draw_bev
from mmeffvit.visualization.segmentation import draw_labels, make_legend
from mmeffvit.visualization.sheet import Page, compose_sheet, fit


def draw_label_sheet(
    samples: Sequence[Mapping[str, Any]],
    metainfo: Mapping[str, Any],
    title: str = "",
    subtitle: str = "",
    **page: int,
) -> Image.Image:
    """Draw samples as a data set has loaded them, without and with their labels.

    Args:
        samples: Dicts of a pipeline after its loading steps: ``img`` (H, W, C), BGR, and what there
            is of ``gt_bboxes``, ``gt_masks``, ``gt_seg_map`` and ``gt_label``; or ``coord`` (N, 3),
            and ``gt_bboxes_3d`` or ``pts_semantic_mask``.
        metainfo: Of the data set: ``classes``, and ``palette`` where it has one.
        title: In large letters on top.
        subtitle: Under the title.
        **page: ``panel`` and ``columns`` of :class:`mmeffvit.visualization.Page`.

    Returns:
        The sheet, RGB.

    Raises:
        ValueError: There is no sample.
    """
    classes = [str(name) for name in metainfo["classes"]]
    palette = metainfo.get("palette")
    palette = palette if palette and len(palette) >= len(classes) else make_palette(len(classes))

    def draw(index: int, room: tuple[int, int]) -> tuple[list[Image.Image], str]:
        sample = samples[index]
        pictures = _draw(sample, classes, palette, room)
        return pictures, f"{_name(sample)}   {_describe(sample, classes)}".strip()

    maps = [s[key] for s in samples for key in ("gt_seg_map", "pts_semantic_mask") if key in s]
    legend = make_legend(maps, classes, palette)
    if any("gt_labels_3d" in s for s in samples):
        legend = [([class_colour(label)], name) for label, name in enumerate(classes)]
    return compose_sheet(
        [s["img"].shape[:2] if "img" in s else (1, 1) for s in samples],
        draw,
        titles=("As loaded", "With labels"),
        legend=legend,
        page=Page(title, subtitle, **page),
    )


def _draw(
    sample: Mapping, classes: Sequence[str], palette: Sequence, room: tuple[int, int]
) -> list[Image.Image]:
    if "img" not in sample:
        return _draw_points(sample, palette, (room[0], room[0]))
    image = to_rgb(sample["img"])
    plain = fit(image, room)
    if "gt_seg_map" in sample:
        return [plain, draw_labels(image, sample["gt_seg_map"], palette, plain.size)]
    if "gt_bboxes" in sample:
        return [plain, draw_objects(image, _objects(sample), classes, plain.size)]
    return [plain, plain]


def _draw_points(sample: Mapping, palette: Sequence, size: tuple[int, int]) -> list[Image.Image]:
    points = sample["coord"]
    if "gt_bboxes_3d" in sample:
        boxes = Boxes(np.asarray(sample["gt_bboxes_3d"], float), sample["gt_labels_3d"])
        none = Boxes(np.zeros((0, 7)), np.zeros(0, int))
        return [draw_bev(points, own, size=size) for own in (none, boxes)]
    colours = np.asarray(sample.get("color", np.full(points.shape, 170.0)), float)
    if "pts_semantic_mask" not in sample:
        return [draw_cloud(points, colours, size)] * 2
    return draw_clouds(points, [colours, colour_labels(sample["pts_semantic_mask"], palette)], size)


def _objects(sample: Mapping) -> Objects:
    boxes = sample["gt_bboxes"]
    masks = sample.get("gt_masks")
    return Objects(
        boxes=np.asarray(getattr(boxes, "tensor", boxes), float).reshape(-1, 4),
        labels=np.asarray(sample["gt_bboxes_labels"], int),
        masks=None if masks is None else masks.to_ndarray().astype(bool),
    )


def _name(sample: Mapping) -> str:
    path = Path(str(sample.get("img_path") or sample.get("lidar_path") or ""))
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name


def _describe(sample: Mapping, classes: Sequence[str]) -> str:
    """The class of an image, or how many objects there are of which."""
    if "gt_label" in sample:
        return ", ".join(classes[int(label)] for label in np.atleast_1d(sample["gt_label"]))
    labels = sample.get("gt_bboxes_labels", sample.get("gt_labels_3d"))
    if labels is None:
        return "" if "img" in sample else f"{len(sample['coord']):,} points"
    counts = Counter(classes[int(label)] for label in labels)
    return " · ".join(f"{number} {name}" for name, number in counts.items()) or "no objects"
