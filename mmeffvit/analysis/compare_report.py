"""Results of a comparison of backbones, as a CSV, as a table and as a picture."""

from __future__ import annotations

import csv
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmeffvit.analysis.compare import COLUMNS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FAINT, _GRID, _FRONT, _OTHER = "#1c2026", "#6e7680", "#dde2e8", "#e4572e", "#2e86de"
_COSTS = {
    "latency_ms": "latency of one image (ms)",
    "memory_mib": "peak memory of training (MiB)",
}

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
    from matplotlib.figure import Figure

    done = [row for row in rows if row["status"] == "ok"]
    if not done:
        raise ValueError("no run has ended well, so there is nothing to draw")
    figure = Figure(figsize=(13, 5.4), dpi=120, facecolor="white", layout="constrained")
    budgets = ", ".join(dict.fromkeys(row["budget"] for row in done))
    machines = ", ".join(dict.fromkeys(row["machine"] for row in done))
    figure.suptitle(
        f"{title or 'Backbones'}: {budgets} of training each, on {machines}",
        fontsize=12,
        fontweight="bold",
        color=_INK,
    )
    for axes, (cost, label) in zip(figure.subplots(1, 2), _COSTS.items()):
        _draw_panel(axes, [row for row in done if row[cost]], cost, label)
    return figure


def _draw_panel(axes: Axes, rows: Sequence[Row], cost: str, label: str) -> None:
    axes.set_xlabel(f"{label}, less is better")
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if not rows:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, color=_FAINT, ha="center")
        return
    axes.set_ylabel(f"{rows[0]['metric']}, more is better")
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
    for (x, y), row, on in zip(points, rows, chosen):
        axes.scatter([x], [y], s=64, color=_FRONT if on else _OTHER, zorder=3)
        axes.annotate(
            textwrap.shorten(row["backbone"].replace(",", ", "), 40, placeholder=" …"),
            (x, y),
            (0, 9),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=_INK,
        )
    axes.margins(0.18, 0.16)
    axes.legend(frameon=False, loc="lower right", fontsize=9)


def _on_front(rows: Sequence[Row], cost: str) -> list[bool]:
    """For each row; what was not measured is not on the front."""
    known = [row for row in rows if row[cost]]
    on = front([float(r[cost]) for r in known], [float(r["value"]) for r in known])
    chosen = {id(row) for row, yes in zip(known, on) if yes}
    return [id(row) in chosen for row in rows]
