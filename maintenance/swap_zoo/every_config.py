"""Every config of the installed toolboxes: its swap, built on the meta device.

What a method's configs share is tried on data by `maintenance.swap_zoo.sweep`; here each file is
read, swapped, written, read back and built, which finds the settings that one config alone has.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import DefaultScope

from maintenance.swap_zoo.measured import measured_once
from maintenance.swap_zoo.methods import Method, is_pyramid, zoo_root
from maintenance.swap_zoo.processes import in_process, sentence
from maintenance.swap_zoo.sweep import read_rows, run_method
from maintenance.swap_zoo.trial import TINY, bare, build, make_cheaper, reload
from mmeffvit.analysis import results
from mmeffvit.configs import convert, lookup, plain, type_name, walk
from mmeffvit.engine.launch import load_config
from mmeffvit.swap import SwapError, swap_backbone
from mmeffvit.swap.locate import find_owner

TOOLBOXES = ("mmdet", "mmseg", "mmpretrain", "mmrotate")
FIELDS = (
    "toolbox",
    "config",
    "backbone",
    "pyramid",
    "result",
    "reason",
    "kind",
    "trained",
    "trained_reason",
)
#: why a kind is known to train that was not trained here
BY_METHOD = "in the table of methods"
#: keys of a model under which nothing counts for its kind, and parts of keys under which all does
_NOT_PARTS = ("backbone", "train_cfg", "test_cfg", "init_cfg")
_PARTS = ("type", "neck", "head", "loss")


def iter_configs() -> Iterator[tuple[str, str]]:
    """Toolbox and file, relative to the folder of its configs, of all that are no bases."""
    for toolbox in TOOLBOXES:
        if importlib.util.find_spec(toolbox) is None:
            continue
        root = zoo_root(toolbox)
        for path in sorted(root.rglob("*.py")):
            relative = path.relative_to(root)
            if not any(part.startswith("_") for part in relative.parts):
                yield toolbox, relative.as_posix()


def try_config(
    config: tuple[str, str],
    built: frozenset[str] = frozenset(),
    measured: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Swap a config and build it on the meta device.

    Args:
        config: Toolbox and file.
        built: Digests of models that were built before.
        measured: Backbones that were measured before.

    Returns:
        ``backbone``, ``pyramid``, ``result``, ``reason``, ``kind``, ``digest`` and ``measured``,
        backbones that were not known. The result is
        'yes', 'no', 'refused' (with a sentence by `swap_backbone`), 'upstream' (the config cannot
        be read or built as it is), or 'none' (it has no backbone).
    """
    toolbox, file = config
    try:
        cfg = load_config(f"{toolbox}::{file}")
    except Exception as error:
        return {"result": "upstream", "reason": f"cannot be read: {sentence(error)}"}
    try:
        owner = find_owner(cfg)
    except SwapError as error:
        return {"result": "none", "reason": str(error)}
    backbone = type_name(lookup(cfg, (*owner, "backbone")))
    row = {"backbone": backbone, "pyramid": is_pyramid(backbone), "kind": _kind(cfg.model)}
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope") or toolbox):
        known = dict(measured or {})
        try:
            with measured_once(known):
                swapped = reload(swap_backbone(cfg, "ravlt", arch=TINY))
        except SwapError as error:
            # of others it makes no difference, and some are large
            if row["pyramid"] and (original := _build_upstream(config)):
                return {**row, "result": "upstream", "reason": original}
            return {**row, "result": "refused", "reason": str(error)}
        except Exception as error:
            return {**row, "result": "no", "reason": sentence(error)}
        model = _small(swapped.model)
        digest = hashlib.sha256(repr(model).encode()).hexdigest()
        reason = "" if digest in built else _build(model)
        if not reason:
            new = {key: value for key, value in known.items() if key not in (measured or {})}
            row.update(digest=digest, measured=new)
            return {**row, "result": "yes", "reason": ""}
        if original := _build_upstream(config):
            return {**row, "result": "upstream", "reason": original}
        return {**row, "result": "no", "reason": reason}


def _small(model: Mapping[str, Any]) -> dict[str, Any]:
    model = convert(plain(model), bare)
    make_cheaper(model)
    return model


def _build_upstream(config: tuple[str, str]) -> str:
    """What goes wrong with the model as upstream wrote it; '' if nothing does."""
    toolbox, file = config
    problem = _build(_small(load_config(f"{toolbox}::{file}").model))
    return f"cannot be built: {problem}" if problem else ""


def _build(model: dict[str, Any]) -> str:
    """What went wrong; '' if nothing did."""
    try:
        with torch.device("meta"):
            build(model)
    except Exception:  # some initialise from numbers, which the meta device has not
        try:
            build(model)
        except Exception as error:
            return sentence(error)
    return ""


def _kind(model: Mapping[str, Any]) -> str:
    """The classes of a model, its necks and heads, but for its backbone."""
    names = {
        type_name(node)
        for place, node in walk(plain(model), skip=_NOT_PARTS)
        if isinstance(node, Mapping)
        and type_name(node)
        and (not place or any(part in str(place[-1]) for part in _PARTS) or type(place[-1]) is int)
    }
    return "+".join(sorted(names))


def sweep(
    configs: Iterable[tuple[str, str]],
    path: Path,
    timeout: float = 300,
    redo: Collection[str] = (),
) -> Iterator[dict[str, Any]]:
    """Try the configs that the file has no row for, adding each row when it is known.

    In the end the rows are sorted.

    Args:
        configs: Toolboxes and files.
        path: A CSV file; made if it is not there.
        timeout: For each config, in seconds.
        redo: Results that are tried again, such as 'refused'.

    Yields:
        Rows.
    """
    rows = [row for row in read_rows(path) if row["result"] not in redo]
    if redo:
        results.write_csv(path, rows, FIELDS)
    known = {(row["toolbox"], row["config"]) for row in rows}
    built: set[str] = set()
    measured: dict[str, Any] = {}
    new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, extrasaction="ignore")
        if new:
            writer.writeheader()
        for config in configs:
            if config in known:
                continue
            outcome = in_process(try_config, config, frozenset(built), measured, timeout=timeout)
            if "error" in outcome:
                outcome = {"result": "no", "reason": outcome["error"]}
            measured.update(outcome.pop("measured", {}))
            if "digest" in outcome:
                built.add(outcome.pop("digest"))
            row = {"toolbox": config[0], "config": config[1], **outcome}
            writer.writerow(row)
            file.flush()
            yield row
    rows = sorted(read_rows(path), key=lambda r: (TOOLBOXES.index(r["toolbox"]), r["config"]))
    results.write_csv(path, rows, FIELDS)


def take_methods(
    rows: Iterable[dict[str, str]], methods: Iterable[Mapping[str, str]]
) -> list[dict[str, str]]:
    """Take over what the table of methods knows of kinds that were not trained here.

    Args:
        rows: Of every config.
        methods: Of `maintenance.swap_zoo.sweep`.

    Returns:
        The rows, with ``trained`` and ``trained_reason`` of what a method's config shows.
    """
    rows = [dict(row) for row in rows]
    done = {(row["toolbox"], row["kind"]) for row in rows if row["trained"]}
    known = {
        (m["toolbox"], f"{m['method']}/{m['config']}") for m in methods if m["result"] == "yes"
    }
    for row in rows:
        key = (row["toolbox"], row["kind"])
        fits = row["pyramid"] == "True" and row["result"] == "yes" and key not in done
        if fits and (row["toolbox"], row["config"]) in known:
            done.add(key)
            row.update(trained="yes", trained_reason=BY_METHOD)
    return rows


def train_kinds(path: Path, timeout: float = 300) -> Iterator[dict[str, Any]]:
    """Train and ask one config of each kind with a pyramid, adding what is known to the file.

    Yields:
        Rows with ``trained`` ('yes', 'no' or 'refused') and ``trained_reason``.
    """
    rows = read_rows(path)
    done = {(row["toolbox"], row["kind"]) for row in rows if row["trained"]}
    for row in rows:
        key = (row["toolbox"], row["kind"])
        if row["pyramid"] != "True" or row["result"] != "yes" or key in done:
            continue
        done.add(key)
        folder, _, file = row["config"].partition("/")
        outcome = run_method(Method(row["toolbox"], folder, file, row["backbone"], True), timeout)
        row.update(trained=outcome["result"], trained_reason=outcome["reason"])
        results.write_csv(path, rows, FIELDS)
        yield row
