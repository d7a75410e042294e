"""Results of a comparison of backbones, as a CSV, as a table and as a picture."""

from __future__ import annotations

import csv
import os
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmeffvit.analysis.compare import COLUMNS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure

_INK, _FAINT, _GRID, _FRONT, _OTHER = "#1c2026", "#6e7680", "#dde2e8", "#e4572e", "#2e86de"
_COSTS = {
    "latency_ms": "latency of one image (ms)",
    "memory_mib": "peak memory of training (MiB)",
}

#: metrics in the field's words
_METRIC_NAMES = {
    "coco/bbox_mAP": "box AP",
    "coco/segm_mAP": "mask AP",
    "pascal_voc/mAP": "mAP of Pascal VOC",
    "accuracy/top1": "accuracy (%)",
    "mIoU": "mIoU (%)",
}
#: where a name may stand: its place in points from the marker, and how it is aligned there
_BESIDE = (
    ((0, 8), "center", "bottom"),
    ((0, -8), "center", "top"),
    ((4, 8), "left", "bottom"),
    ((-4, 8), "right", "bottom"),
    ((4, -8), "left", "top"),
    ((-4, -8), "right", "top"),
    ((9, 0), "left", "center"),
    ((-9, 0), "right", "center"),
    ((0, 22), "center", "bottom"),
    ((0, -22), "center", "top"),
    ((9, 22), "left", "bottom"),
    ((9, -22), "left", "top"),
)

Row = Mapping[str, str]


def read_rows(path: str | os.PathLike) -> list[dict[str, str]]:
    """Rows of an earlier comparison; none if there is no file.

    Raises:
        ValueError: The columns are others.
    """
    if not Path(path).is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path} is no comparison of this version: its columns are others")
        return list(reader)


def front(costs: Sequence[float], values: Sequence[float]) -> list[bool]:
    """Which points are on the Pareto front: none costs less and is as good, or better at its cost.

    Args:
        costs: Less is better.
        values: More is better.
    """
    points = list(zip(costs, values, strict=True))
    return [
        not any(
            other_cost <= cost and other_value >= value and (other_cost, other_value) != point
            for other_cost, other_value in points
        )
        for point in points
        for cost, value in [point]
    ]


def format_table(rows: Iterable[Row]) -> str:
    """A table in Markdown, the best first, failed runs with their reasons last."""
    rows = list(rows)
    done = sorted((r for r in rows if r["status"] == "ok"), key=lambda r: -float(r["value"]))
    metric = done[0]["metric"] if done else "value"
    marked = {
        row["backbone"] for cost in _COSTS for row, on in zip(done, _on_front(done, cost)) if on
    }
    lines = [
        f"| backbone | {metric} | latency (ms) | memory (MiB) | parameters (M) | backbone GMACs "
        "| iterations | seconds | front |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in done:
        cells = [row["value"], row["latency_ms"], row["memory_mib"], row["params_m"]]
        cells += [row["backbone_gmacs"], row["iterations"], row["seconds"]]
        cells.append("yes" if row["backbone"] in marked else "")
        lines.append(f"| {row['backbone']} | {' | '.join(cells)} |")
    for row in rows:
        if row["status"] != "ok":
            reason = row["reason"].replace("|", "\\|")
            lines.append(f"| {row['backbone']} | failed: {reason} | | | | | | | |")
    return "\n".join(lines)


def draw_comparison(rows: Iterable[Row], title: str = "") -> Figure:
    """Accuracy against latency and against memory; the Pareto front is a line.

    Raises:
        ValueError: No run has ended well.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    done = [row for row in rows if row["status"] == "ok"]
    if not done:
        raise ValueError("no run has ended well, so there is nothing to draw")
    figure = Figure(figsize=(13, 5.6), dpi=120, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    budgets = ", ".join(dict.fromkeys(_in_words(row["budget"]) for row in done))
    machines = ", ".join(dict.fromkeys(row["machine"] for row in done))
    figure.suptitle(title or "Backbones", fontsize=13, fontweight="bold", color=_INK)
    figure.supxlabel(
        f"{budgets} of training each, on {machines}; random weights at the start",
        fontsize=9,
        color=_FAINT,
    )
    panels = []
    for axes, (cost, label) in zip(figure.subplots(1, 2, sharey=True), _COSTS.items()):
        own = [row for row in done if row[cost]]
        panels.append((axes, own, _draw_panel(axes, own, cost, label)))
    for axes, _, _ in panels:
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # lines to the edges move none
    for axes, _, points in panels:
        _extend_front(axes, points)
    figure.draw_without_rendering()  # names are written where there is room
    for axes, own, points in panels:
        names = [row["backbone"].replace(",", ", ") for row in own]
        names = [textwrap.shorten(name, 40, placeholder=" …") for name in names]
        _write_names(axes, points, names, canvas.get_renderer())
    return figure


def _in_words(budget: str) -> str:
    """``240iters`` as ``240 iterations``; times stay."""
    match = re.fullmatch(r"(\d+)\s*_?its?|(\d+)\s*_?iters", budget)
    return f"{match[1] or match[2]} iterations" if match else budget


def _draw_panel(
    axes: Axes, rows: Sequence[Row], cost: str, label: str
) -> list[tuple[float, float]]:
    """Draw points and their front; returns the points."""
    axes.set_xlabel(f"{label}, less is better")
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if not rows:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, color=_FAINT, ha="center")
        return []
    metric = rows[0]["metric"]
    if axes.get_subplotspec().is_first_col():
        axes.set_ylabel(f"{_METRIC_NAMES.get(metric, metric)}, more is better")
    chosen = _on_front(rows, cost)
    points = [(float(row[cost]), float(row["value"])) for row in rows]
    line = sorted(point for point, on in zip(points, chosen) if on)
    axes.plot(
        *zip(*line),
        color=_FRONT,
        linewidth=1.4,
        label="Pareto front",
        zorder=2,
        drawstyle="steps-post",
    )
    for (x, y), on in zip(points, chosen):
        axes.scatter([x], [y], s=64, color=_FRONT if on else _OTHER, zorder=3)
    axes.margins(0.18, 0.16)
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    return points


def _extend_front(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Dots beyond its ends: nothing is as good for less, and more buys nothing."""
    if not points:
        return
    best = max(value for _, value in points)
    high = min(point for point in points if point[1] == best)
    first = min(points, key=lambda point: (point[0], -point[1]))
    right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
    style = {"color": _FRONT, "linewidth": 1.0, "linestyle": ":", "zorder": 1}
    axes.vlines(first[0], bottom, first[1], **style)
    axes.hlines(best, high[0], right, **style)


def _write_names(
    axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str], renderer: RendererBase
) -> None:
    """Write each name above, below or beside its point: where no point or other name is."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    halo = [withStroke(linewidth=3, foreground="white")]  # lines pass below
    room = axes.get_window_extent(renderer)
    markers = axes.transData.transform(points) if points else []
    taken = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in markers]
    legend = axes.get_legend()
    taken += [legend.get_window_extent(renderer)] if legend else []
    for point, name in zip(points, names):
        best = None
        for offset, across, up in _BESIDE:
            text = axes.annotate(
                name,
                point,
                offset,
                textcoords="offset points",
                ha=across,
                va=up,
                fontsize=9,
                color=_INK,
                path_effects=halo,
            )
            box = text.get_window_extent(renderer)
            outside = not (room.x0 <= box.x0 and box.x1 <= room.x1)
            cost = sum(box.overlaps(other) for other in taken) + 2 * outside
            if best is None or cost < best[0]:
                if best is not None:
                    best[1].remove()
                best = (cost, text, box)
            else:
                text.remove()
            if cost == 0:
                break
        taken.append(best[2])


def _on_front(rows: Sequence[Row], cost: str) -> list[bool]:
    """For each row; what was not measured is not on the front."""
    known = [row for row in rows if row[cost]]
    on = front([float(r[cost]) for r in known], [float(r["value"]) for r in known])
    chosen = {id(row) for row, yes in zip(known, on) if yes}
    return [id(row) in chosen for row in rows]
