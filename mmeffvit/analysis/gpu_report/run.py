"""Measure what was planned, most important first, and write each row as it is measured."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from mmeffvit.analysis import results
from mmeffvit.ops import UnavailableImplementationError

COLUMNS = (
    "section",
    "name",
    "setting",
    "metric",
    "value",
    "unit",
    "limit",
    "verdict",
    "note",
    *results.ENVIRONMENT_COLUMNS,
)
"""``verdict`` is ``ok``, ``too large``, ``failed``, ``not run``, ``unavailable`` for what a machine
cannot, or empty for what has no limit."""


class Value(NamedTuple):
    """A number that was measured; above its limit it is too large."""

    metric: str
    value: float
    unit: str = ""
    limit: float | None = None

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return ""
        return "ok" if self.value <= self.limit else "too large"  # NaN is too large


@dataclass(frozen=True)
class Item:
    """One thing to measure.

    Attributes:
        section: Where it belongs on the page.
        name: Of the network, operator or file.
        setting: Size, type and mode.
        measure: Measures it.
    """

    section: str
    name: str
    setting: str
    measure: Callable[[], Iterable[Value]]


def run(
    items: Iterable[Item], out: Path, minutes: float, environment: Mapping[str, str]
) -> list[dict[str, str]]:
    """Measure the items in their order; what fails is a row too, and the others still run.

    Args:
        items: What :func:`mmeffvit.analysis.gpu_report.plan` makes.
        out: The CSV, which is whole after every item.
        minutes: Nothing is begun after so many; what is left has rows that say so.
        environment: Machine and versions, for every row.

    Returns:
        The rows of the file.
    """
    rows: list[dict[str, str]] = []
    start = time.monotonic()
    late = []
    for item in items:
        elapsed = time.monotonic() - start
        if elapsed > 60 * minutes:
            late.append(item)
            continue
        print(
            f"[{elapsed:4.0f} s] {item.section}: {item.name}, {item.setting}",
            file=sys.stderr,
            flush=True,
        )
        rows += _rows(item, environment)
        results.write_csv(out, rows, COLUMNS)
    for item in late:
        note = f"{minutes:g} minutes were over"
        rows.append(_row(item, environment, verdict="not run", note=note))
    results.write_csv(out, rows, COLUMNS)
    return rows


def _rows(item: Item, environment: Mapping[str, str]) -> list[dict[str, str]]:
    rows = []
    try:
        for value in item.measure():
            limit = "" if value.limit is None else f"{value.limit:g}"
            number = {"metric": value.metric, "value": f"{value.value:.4g}", "unit": value.unit}
            rows.append(_row(item, environment, **number, limit=limit, verdict=value.verdict))
    except UnavailableImplementationError as error:
        rows.append(_row(item, environment, verdict="unavailable", note=str(error)[:300]))
    except Exception as error:  # a report lists what fails
        note = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        rows.append(_row(item, environment, verdict="failed", note=note))
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return rows


def _row(item: Item, environment: Mapping[str, str], **fields: str) -> dict[str, str]:
    row = dict.fromkeys(COLUMNS, "")
    row.update(section=item.section, name=item.name, setting=item.setting)
    return {**row, **fields, **environment}
