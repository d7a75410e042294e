"""Benchmark results as CSV and as tables for people."""

import csv
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from mmeffvit.analysis.benchmark import Measurement, growth_exponent, growth_over_area
from mmeffvit.analysis.memory import MIB
from mmeffvit.files import whole_file

ENVIRONMENT_COLUMNS = ("machine", "threads", "python", "torch", "mmengine", "mmdet", "mmeffvit")

SETTING_COLUMNS = ("device", "dtype", "mode", "batch_size", "height", "width")

COLUMNS = (
    "backbone",
    "options",
    "implementation",
    *SETTING_COLUMNS,
    "rounds",
    "time_ms",
    "time_min_ms",
    "time_max_ms",
    "speedup_over_reference",
    "peak_memory_mib",
    "note",
    *ENVIRONMENT_COLUMNS,
    "command",
)
"""``time_ms`` is the median over rounds; ``peak_memory_mib`` excludes weights and input."""

_IDENTITY = (*COLUMNS[:3], *SETTING_COLUMNS, *ENVIRONMENT_COLUMNS)


def to_row(
    measurement: Measurement, environment: Mapping[str, str], options: str, command: str
) -> dict[str, str]:
    """One line of the CSV."""
    setting, times = measurement.setting, measurement.times
    row = {
        "backbone": measurement.contender.backbone,
        "options": options,
        "implementation": measurement.contender.implementation,
        **{name: str(getattr(setting, name)) for name in SETTING_COLUMNS},
        "rounds": str(len(times)),
        "time_ms": _milliseconds(measurement.seconds) if times else "",
        "time_min_ms": _milliseconds(min(times)) if times else "",
        "time_max_ms": _milliseconds(max(times)) if times else "",
        "speedup_over_reference": _text(measurement.speedup, ".3f"),
        "peak_memory_mib": (
            "" if measurement.peak_bytes is None else f"{measurement.peak_bytes / MIB:.1f}"
        ),
        "note": measurement.note,
        "command": command,
    }
    return {**row, **environment}


def identity(row: Mapping[str, str]) -> tuple[str, ...]:
    """What makes two rows measurements of the same thing on the same machine and versions."""
    return tuple(row.get(column, "") for column in _IDENTITY)


def write_csv(
    path: str | os.PathLike, rows: Sequence[Mapping[str, str]], columns: Sequence[str] = COLUMNS
) -> None:
    """Write all rows; the file at `path` is either the old one or the whole new one."""
    with whole_file(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: str | os.PathLike, columns: Sequence[str] = COLUMNS) -> list[dict[str, str]]:
    """Read what `write_csv` wrote.

    Raises:
        ValueError: If the columns are others.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != tuple(columns):
            raise ValueError(f"{path} is not a benchmark of this version: its columns are others")
        return list(reader)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, a line for each row."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def format_rows(rows: Iterable[Mapping[str, str]]) -> str:
    """A table with one line per measurement."""
    lines = [
        f"{'mode':<8}{'input':>12}  {'backbone':<44}{'time ms':>10}{'min..max':>20}"
        f"{'vs reference':>14}{'peak MiB':>10}"
    ]
    for row in rows:
        size = f"{row['batch_size']}x{row['height']}x{row['width']}"
        name = " ".join(filter(None, (row["backbone"], row["options"], row["implementation"])))
        spread = f"{row['time_min_ms']}..{row['time_max_ms']}" if row["time_ms"] else ""
        speedup = f"{row['speedup_over_reference']}x" if row["speedup_over_reference"] else ""
        lines.append(
            f"{row['mode']:<8}{size:>12}  {name:<44}{row['time_ms'] or '-':>10}{spread:>20}"
            f"{speedup:>14}{row['peak_memory_mib'] or '-':>10}"
        )
        if row["note"]:
            lines.append(f"{'':<22}{row['note']}")
    return "\n".join(lines)


def format_growth(rows: Iterable[Mapping[str, str]]) -> str:
    """How time and memory grow with the input's area, per contender; empty for a single size."""
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        if row["time_ms"]:
            key = (row["mode"], row["backbone"], row["options"], row["implementation"])
            groups[key].append(row)
    lines = []
    for (mode, *name), group in groups.items():
        areas = [int(row["height"]) * int(row["width"]) for row in group]
        if len(set(areas)) < 2:
            continue
        times = [float(row["time_ms"]) for row in group]
        exponent, growth = growth_exponent(areas, times), growth_over_area(areas, times)
        text = (
            f"{mode:<8}{' '.join(filter(None, name)):<44} time ~ area^{exponent:.2f}, "
            f"time per pixel x{growth:.2f} from the smallest to the largest input"
        )
        peaks = [float(row["peak_memory_mib"] or 0) for row in group]
        if min(peaks) > 0:
            text += f"; memory ~ area^{growth_exponent(areas, peaks):.2f}"
        lines.append(text)
    return "\n".join(lines)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"


def _text(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)
