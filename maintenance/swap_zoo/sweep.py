"""All methods, each in a process of its own, with results that survive an interruption."""

from __future__ import annotations

import csv
import functools
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maintenance.swap_zoo.data_trial import build_pipelines, try_dataset
from maintenance.swap_zoo.methods import Method
from maintenance.swap_zoo.processes import in_process
from maintenance.swap_zoo.trial import try_method
from mmeffvit.analysis import results

FIELDS = (
    "toolbox",
    "method",
    "config",
    "backbone",
    "pyramid",
    "result",
    "reason",
    "loss",
    "without_gradient",
    "seconds",
    "dataset",
    "dataset_reason",
)


def run_method(method: Method, timeout: float = 300) -> dict[str, Any]:
    """Try a method in a process; if it fails, also its upstream config, to tell who is to blame.

    Returns:
        A row of the table: ``result`` is 'yes', 'no' or 'refused', ``reason`` says why.
    """
    row: dict[str, Any] = {
        "toolbox": method.toolbox,
        "method": method.name,
        "config": method.config,
        "backbone": method.backbone,
        "pyramid": method.pyramid,
    }
    if not method.config:
        return {**row, "result": "refused", "reason": "no config of the folder has a backbone"}
    outcome = in_process(functools.partial(try_method, swap=True), method, timeout=timeout)
    if "error" not in outcome:
        return {**row, "result": "yes", "reason": "", **outcome}
    if outcome["refused"]:
        return {**row, "result": "refused", "reason": outcome["error"]}
    reason = outcome["error"]
    as_upstream = functools.partial(try_method, swap=False)
    original = in_process(as_upstream, method, timeout=timeout)
    if original.get("error") == reason:
        reason = f"as upstream, with its own backbone: {reason}"
    elif "error" in original:
        reason = f"{reason}; upstream, with its own backbone: {original['error']}"
    return {**row, "result": "no", "reason": reason, "traceback": outcome["traceback"]}


def run_dataset(method: Method, timeout: float = 300, swap: bool = True) -> dict[str, Any]:
    """Try a made-up data set on a method; if it fails, upstream's pipelines as they are, too.

    Args:
        method: The method.
        timeout: Of each trial, in seconds.
        swap: Whether it gets another backbone, or keeps its own.

    Returns:
        What is added to its row: ``dataset`` is 'yes', 'no' or 'refused', ``dataset_reason`` says
        why.
    """
    outcome = in_process(try_dataset, method, swap, timeout=timeout)
    if "error" not in outcome:
        return {"dataset": "yes", "dataset_reason": ""}
    reason = outcome["error"]
    if outcome["refused"]:
        return {"dataset": "refused", "dataset_reason": reason}
    if in_process(build_pipelines, method, timeout=timeout).get("error") == reason:
        reason = f"as upstream: {reason}"
    return {"dataset": "no", "dataset_reason": reason, "traceback": outcome["traceback"]}


def sweep(
    methods: Iterable[Method],
    path: Path,
    timeout: float = 300,
    redo: Iterable[str] = (),
    redo_data: Iterable[str] = (),
) -> Iterable[tuple[dict[str, Any], float]]:
    """Run the methods that the file has no row for, adding each row when it is known.

    Args:
        methods: Which.
        path: A CSV file; made if it is not there.
        timeout: For each run, in seconds.
        redo: Results to try again, such as 'no'.
        redo_data: The same of the data set.

    Yields:
        Row and seconds it took.
    """
    rows = {(row["toolbox"], row["method"]): row for row in read_rows(path)}
    for method in methods:
        known = rows.get((method.toolbox, method.name))
        start = time.perf_counter()
        fits = known and known["result"] not in redo and known["config"] == method.config
        row = known if fits else run_method(method, timeout)
        swapped = row["result"] == "yes"
        # what a swap refuses keeps its own backbone; what does not run at all takes no data
        runs = swapped or (row["result"] == "refused" and method.config)
        wanted = runs and row.get("dataset") in (None, "", *redo_data)
        if fits and not wanted:
            continue
        if wanted:
            row = {**row, **run_dataset(method, timeout, swapped)}
        rows[method.toolbox, method.name] = row
        write_rows(path, rows.values())
        yield row, time.perf_counter() - start


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a table, sorted; the file is whole or as before."""
    rows = sorted(rows, key=lambda row: (row["toolbox"], row["method"]))
    results.write_csv(path, [{key: row.get(key, "") for key in FIELDS} for row in rows], FIELDS)
