"""Training curves from the scalars that mmengine's `LocalVisBackend` writes."""

import itertools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = {
    "loss": "total",
    "loss_rpn_cls": "RPN objectness",
    "loss_rpn_bbox": "RPN box",
    "loss_cls": "class",
    "loss_bbox": "box",
    "loss_mask": "mask",
    "coco/bbox_mAP": "box AP",
    "coco/segm_mAP": "mask AP",
    "AP_3d": "AP in space",
    "AP_bev": "AP from above",
}
_COLOURS = ("#17a673", "#8e5bd0", "#d99a00", "#c2477f", "#5b6c7d", "#00a5b5")
# a task has one colour in both panels
_TASK_COLOURS = {"bbox": "#2e86de", "mask": "#e4572e", "segm": "#e4572e"}
_INK, _GRID = "#1c2026", "#dde2e8"
# the score of a task, not its parts by size or threshold
_METRIC = re.compile(r"(^|/|_)(mAP|AP|mIoU|PQ|accuracy/top1)$|(^|/)AP_(3d|bev)$")
# mmseg's heads have names: decode.loss_ce
_LOSS = re.compile(r"(^|\.)loss")
# what mmseg and mmpretrain report in percent
_IN_PERCENT = re.compile(r"(^|/)(mIoU|accuracy/top1)$")


def read_scalars(work_dir: str | os.PathLike) -> tuple[list[dict], list[dict]]:
    """Read the scalars of all runs in a work directory, or of one ``scalars.json``.

    Runs are read in the order of their time stamps. A later run takes over at its first step:
    what earlier runs did beyond it, before they were interrupted, is left out.

    Args:
        work_dir: Holds ``<time stamp>/vis_data/scalars.json``; or such a file.

    Returns:
        The records of training and of validation, in order, each with the training iteration
        ``'step'`` at which it was taken; scores are between 0 and 1. Both are empty if there is no
        file.
    """
    path = Path(work_dir)
    files = [path] if path.is_file() else sorted(path.glob("*/vis_data/scalars.json"))
    train: list[dict] = []
    val: list[dict] = []
    for file in files:
        records = _read_lines(file)
        steps = [r["step"] for r in records if "loss" in r]
        if steps:
            # a run logs at the end of an interval, which began right after the step it took up
            interval = min(np.diff(steps), default=1) if len(steps) > 1 else 1
            start = steps[0] - interval
            train = [r for r in train if r["step"] <= start]
            val = [r for r in val if r["step"] <= start]
        for record in records:
            if "loss" in record:
                train.append(record)
            elif any(_METRIC.search(key) for key in record):
                # loops over epochs give the epoch as the step of a validation
                last = train[-1]["step"] if train else 0
                val.append({**as_fractions(record), "step": max(record.get("step", 0), last)})
    return train, val


def as_fractions(scores: dict) -> dict:
    """The scores of a validation between 0 and 1, also those that toolboxes report in percent."""
    # of points, all metrics are fractions; mmseg's overall accuracy is called aAcc
    of_points = any(key.rpartition("/")[2] == "allAcc" for key in scores)
    return {
        key: value / 100 if _IN_PERCENT.search(key) and not of_points else value
        for key, value in scores.items()
    }


def draw_curves(
    train: Sequence[dict], val: Sequence[dict], title: str = "", smoothing: float = 0.5
) -> "Figure":
    """Draw losses and scores against the training iteration.

    Args:
        train: Records with ``'step'``, ``'loss'`` and its parts, as `read_scalars` returns them.
        val: Records with ``'step'`` and scores between 0 and 1, such as ``'coco/segm_mAP'``.
        title: Above both panels.
        smoothing: Weight of the past in the lines' running mean; the raw values stay visible.

    Returns:
        A figure that belongs to no window.

    Raises:
        ValueError: There is nothing to draw.
    """
    if not train and not val:
        raise ValueError("draw_curves needs at least one record of training or validation")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.2), dpi=120, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2)
    if title:
        figure.suptitle(title, fontsize=16, fontweight="bold", color=_INK, x=0.012, ha="left")
        figure.get_layout_engine().set(h_pad=0.12)
    _draw_losses(left, train, smoothing)
    _draw_scores(right, val)
    last = max(record["step"] for record in (*train, *val))
    for axes in (left, right):
        # room for the numbers beside the last points
        axes.set_xlim(0, last * (1.1 if axes is right else 1.02))
        axes.set_xlabel("training iteration", color=_INK)
        axes.grid(color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#9aa4af")
        axes.tick_params(colors="#4a5560")
    return figure


def _draw_losses(axes: "Axes", train: Sequence[dict], smoothing: float) -> None:
    axes.set_title("Loss", loc="left", fontweight="bold", color=_INK)
    names = list(dict.fromkeys(key for r in train for key in r if _LOSS.search(key)))
    # the largest first, so that the legend is in the order of the lines
    parts = sorted(
        # a part that is all there is would hide the total
        (name for name in names if any(r.get(name, r["loss"]) != r["loss"] for r in train)),
        key=lambda name: -np.mean([r[name] for r in train[-5:] if name in r] or [0]),
    )
    colours = {"loss": _INK, **_choose_colours(parts)}
    for name in ("loss", *parts):
        points = [(r["step"], r[name]) for r in train if name in r]
        if not points:
            continue
        steps, values = np.array(points, float).T
        colour = colours[name]
        axes.plot(steps, values, color=colour, alpha=0.22, linewidth=1)
        axes.plot(
            steps,
            _smooth(values, smoothing),
            color=colour,
            linewidth=2.6 if name == "loss" else 1.8,
            label=_name(name),
        )
    if train:
        axes.legend(frameon=False, ncols=2, fontsize=10, labelcolor=_INK)
        axes.set_ylim(bottom=0)


def _draw_scores(axes: "Axes", val: Sequence[dict]) -> None:
    axes.set_title("Accuracy on held-out data", loc="left", fontweight="bold", color=_INK)
    axes.set_ylim(0, 1)
    names = list(dict.fromkeys(key for r in val for key in r if _METRIC.search(key)))
    colours = _choose_colours(names)
    lines = []
    for name in names:
        # pycocotools gives -1 where there was nothing to measure
        points = [(r["step"], r[name]) for r in val if r.get(name, -1) >= 0]
        if points:
            lines.append((name, colours[name], np.array(points, float).T))
    if not lines:
        axes.text(0.5, 0.5, "no validation yet", transform=axes.transAxes, ha="center")
        return
    top = max(values.max() for _, _, (_, values) in lines)
    axes.set_ylim(0, min(1.0, max(0.1, np.ceil(top * 1.15 * 10) / 10)))
    ends = sorted(values[-1] for _, _, (_, values) in lines)
    for name, colour, (steps, values) in lines:
        axes.plot(steps, values, "o-", color=colour, linewidth=2.2, markersize=6, label=_name(name))
        # beside the last point, and apart from its neighbours
        shift = 9 * (ends.index(values[-1]) - (len(ends) - 1) / 2)
        axes.annotate(
            f"{values[-1]:.3f}",
            (steps[-1], values[-1]),
            xytext=(9, shift),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
        )
    axes.legend(frameon=False, loc="upper left", fontsize=11, labelcolor=_INK)


def _choose_colours(names: Sequence[str]) -> dict[str, str]:
    """Colours of the tasks where a name tells its task, and of its own for every other name."""
    colours, free = {}, itertools.cycle(_COLOURS)
    for name in names:
        task = next((t for t in _TASK_COLOURS if t in name and "rpn" not in name), None)
        colours[name] = _TASK_COLOURS[task] if task else next(free)
    return colours


def _smooth(values: np.ndarray, weight: float) -> np.ndarray:
    """Running mean with exponential weights, without a bias towards the first value."""
    smooth, total, norm = np.empty_like(values), 0.0, 0.0
    for index, value in enumerate(values):
        total, norm = weight * total + value, weight * norm + 1
        smooth[index] = total / norm
    return smooth


def _name(key: str) -> str:
    plain = key.rpartition("/")[2].replace("loss_", "").replace("_", " ").replace(".", " ")
    return _NAMES.get(key, plain)


def _read_lines(file: Path) -> list[dict]:
    """One JSON object per line; a killed run may leave half of the last one."""
    records = []
    for line in file.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and ("step" in record or "loss" not in record):
            records.append(record)
    return records
