"""Data sets in the loaders of a config, whatever wraps them, and the pipelines inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmeffvit.configs import Place, plain, type_name, walk
from mmeffvit.datasets.layouts import FolderData
from mmeffvit.swap import upstream
from mmeffvit.swap.changes import Draft
from mmeffvit.swap.errors import SwapError

SPLITS = ("train", "val", "test")
#: entries of a config with pipelines
_WITH_PIPELINES = (*(f"{split}_dataloader" for split in SPLITS), "custom_hooks", "tta_pipeline")


def iter_datasets(draft: Draft, split: str) -> Iterator[Place]:
    """Places of the innermost data sets of a split; of several joined ones the first is left.

    Samplers that draw from several sources, as semi-supervised training has them, keep them all.
    """
    loader = draft.get((f"{split}_dataloader",))
    if not isinstance(loader, Mapping) or loader.get("dataset") is None:
        return
    several = "MultiSource" in type_name(loader.get("sampler"))
    yield from _innermost(draft, (f"{split}_dataloader", "dataset"), several)


def _innermost(draft: Draft, place: Place, several: bool) -> Iterator[Place]:
    node = draft.get(place)
    if isinstance(node, (list, tuple)):
        for i in range(len(node)):
            yield from _innermost(draft, (*place, i), several)
        return
    kind = type_name(node)
    reason = upstream.FIXED_SETS.get(kind)
    if reason is not None:
        raise SwapError(f"The {kind} of this config cannot be replaced: {reason}.")
    joined = node.get("datasets")
    if joined and not several:
        why = f"one data set in place of the {len(joined)} that were joined"
        draft.set(place, plain(joined[0]), why)
        yield from _innermost(draft, place, several)
    elif joined:
        yield from _innermost(draft, (*place, "datasets"), several)
    elif node.get("dataset") is not None:
        yield from _innermost(draft, (*place, "dataset"), several)
    else:
        yield place


def set_entries(draft: Draft, place: Place, entries: Mapping[str, Any], data: FolderData) -> None:
    """Write the entries of a data set, and drop those of the old one that others do not have."""
    old = draft.get(place)
    own = f"of {type_name(old)} and its files alone"
    for key in list(old):
        if key not in upstream.KEPT_OF_DATASET and key not in entries:
            draft.remove((*place, key), own)
    for key, value in entries.items():
        draft.set((*place, key), value, f"of your data ({data.layout})")


def iter_steps(draft: Draft) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Every step of every pipeline, with its place."""
    for entry in _WITH_PIPELINES:
        for place, value in list(walk(plain(draft.get((entry,))))):
            if isinstance(value, Mapping) and type_name(value):
                yield (entry, *place), value


def drop_steps(draft: Draft, kinds: tuple[str, ...], why: str) -> None:
    """Take steps out of all pipelines."""
    for entry in _WITH_PIPELINES:
        for place, value in list(walk(plain(draft.get((entry,))))):
            if isinstance(value, (list, tuple)) and any(type_name(v) in kinds for v in value):
                kept = [plain(v) for v in value if type_name(v) not in kinds]
                draft.set((entry, *place), kept, why)


def evaluators(draft: Draft) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Key of each evaluator that the config has, and its metrics."""
    for key in ("val_evaluator", "test_evaluator"):
        value = draft.get((key,))
        if value:
            yield key, [value] if isinstance(value, Mapping) else list(value)


def set_metric(draft: Draft, key: str, entries: Mapping[str, Any], drop: tuple[str, ...]) -> None:
    """Make one metric of an evaluator: that of its type if it is there, else a new one."""
    value = draft.get((key,))
    metrics = [value] if isinstance(value, Mapping) else list(value)
    same = [metric for metric in metrics if type_name(metric) == entries["type"]]
    if isinstance(value, Mapping) and same:
        if any(same[0].get(name) for name in drop):
            for name in drop:
                draft.remove((key, name), "it made files for a server; now there are labels")
        for name, item in entries.items():
            if name != "type":
                draft.set((key, name), item, "evaluated on your data")
        return
    kept = {n: v for n, v in (same[0] if same else {}).items() if n not in drop}
    names = ", ".join(map(type_name, metrics))
    draft.set((key,), {**kept, **entries}, f"evaluated on your data, in place of {names}")
    _free_best(draft)


def _free_best(draft: Draft) -> None:
    """What tells the best checkpoint is called after a metric."""
    place = ("default_hooks", "checkpoint", "save_best")
    if draft.get(place) not in (None, "auto"):
        draft.set(place, "auto", "the metric has another name")
