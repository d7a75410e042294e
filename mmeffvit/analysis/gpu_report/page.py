"""The page of a report, made from its CSV alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmeffvit.analysis import results
from mmeffvit.files import whole_file


def write_page(rows: Sequence[Mapping[str, str]], out: Path) -> None:
    """Write a page in Markdown: what went wrong first, then a table for each section."""
    with whole_file(out) as scratch:
        scratch.write_text(page(rows), encoding="utf-8")


def page(rows: Sequence[Mapping[str, str]]) -> str:
    """The text of the page."""
    parts = ["# Report of a GPU"]
    if rows:
        versions = (f"{name}: {rows[0][name]}" for name in results.ENVIRONMENT_COLUMNS)
        parts.append("; ".join(versions) + ".")
    wrong = [row for row in rows if row["verdict"] in ("failed", "too large", "not run")]
    counts = f"{len(rows)} rows, {len(wrong)} of them to look at."
    parts.append("\n".join([counts, *([""] if wrong else []), *map(_in_words, wrong)]))
    for section in dict.fromkeys(row["section"] for row in rows):
        of_section = [row for row in rows if row["section"] == section]
        own = [row for row in of_section if row["value"]]
        if own:
            parts.append(f"## {section}\n\n{_table(own)}")
        missing = [row for row in of_section if row["verdict"] == "unavailable"]
        if missing:
            parts.append("\n".join(map(_in_words, missing)))
    return "\n\n".join(parts) + "\n"


def _in_words(row: Mapping[str, str]) -> str:
    what = row["note"] or f"{row['metric']} {row['value']}, limit {row['limit']}"
    return f"- {row['verdict']}: {row['section']}, {row['name']}, {row['setting']}: {what}"


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    """One line for a name and setting, one column for a metric."""
    units = {row["metric"]: row["unit"] for row in rows}
    heads = [f"{metric} ({unit})" if unit else metric for metric, unit in units.items()]
    lines = []
    for key in dict.fromkeys((row["name"], row["setting"]) for row in rows):
        own = {r["metric"]: r["value"] for r in rows if (r["name"], r["setting"]) == key}
        lines.append([*key, *(own.get(metric, "") for metric in units)])
    return results.markdown(["", "setting", *heads], lines).rstrip("\n")
