"""Where the data of a config lies: moving it, and asking whether it is there."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmeffvit.configs import convert, full_type, type_name
from mmeffvit.engine.errors import LaunchError

_DATA_KEYS = tuple(
    f"{split}_{part}" for split in ("train", "val", "test") for part in ("dataloader", "evaluator")
)


# what tools/export_digits.py writes for the configs of a toolbox, and the data_root in it
_LAYOUTS = {
    "mmdet": ("coco", "COCO", ""),
    "mmseg": ("ade20k", "ADE20K", "/ADEChallengeData2016"),
    "mmpretrain": ("imagenet", "ImageNet", ""),
}

# first letters of a key in data_prefix -> what the folder holds
_FOLDERS = {
    "seg": "folder of label maps",
    "pts": "folder of points",
    "sweeps": "folder of points",
    "label": "folder of labels",
    "calib": "folder of calibrations",
}


def iter_datasets(dataset: Any) -> Iterator[Mapping]:
    """The innermost dataset configs, whatever wrappers (RepeatDataset, ConcatDataset) hold them."""
    if isinstance(dataset, Mapping):
        inner = [dataset[key] for key in ("dataset", "datasets") if dataset.get(key) is not None]
        if not inner:
            yield dataset
        for item in inner:
            yield from iter_datasets(item)
    elif isinstance(dataset, Sequence) and not isinstance(dataset, str):
        for item in dataset:
            yield from iter_datasets(item)


def set_data_root(cfg: Config, data_root: str) -> None:
    """Move all datasets and the files that evaluators read to another folder.

    Args:
        cfg: Changed in place.
        data_root: The new folder, with the same layout as the old one.

    Raises:
        LaunchError: If the config has no ``data_root``, or several.
    """
    datasets = [
        dataset
        for key in _DATA_KEYS
        if key.endswith("dataloader") and cfg.get(key)
        for dataset in iter_datasets(cfg[key].get("dataset"))
    ]
    roots = {os.path.normpath(d["data_root"]) for d in datasets if d.get("data_root")}
    if len(roots) != 1:
        found = ", ".join(sorted(roots)) or "none"
        raise LaunchError(
            f"data_root={data_root!r} needs a config whose datasets share one data_root; found: "
            f"{found}. Set them one by one, such as "
            "--cfg-options train_dataloader.dataset.data_root=DIR."
        )
    (old,) = roots

    def move(value: Any) -> Any:
        path = os.path.normpath(value) if isinstance(value, str) and value else ""
        if path == old:
            return data_root
        if path.startswith(old + os.sep):
            # a prefix that names are appended to keeps its slash
            return os.path.join(data_root, path[len(old) + 1 :]) + "/" * value.endswith("/")
        return value

    for key in (*_DATA_KEYS, "data_root"):
        if cfg.get(key) is not None:
            cfg[key] = ConfigDict({key: convert(cfg[key], move)})[key]


def find_missing_data(cfg: Config, splits: Sequence[str]) -> list[tuple[str, str]]:
    """Files and folders that a config reads and that are not there.

    Args:
        cfg: A config of an OpenMMLab toolbox.
        splits: Of ``'train'``, ``'val'``, ``'test'``.

    Returns:
        What it is, such as ``'annotation file'``, and its path as the config has it; no repeats.
    """
    wanted: dict[str, str] = {}
    for split in splits:
        loader = cfg.get(f"{split}_dataloader") or {}
        datasets = list(iter_datasets(loader.get("dataset")))
        foreign = [dataset for dataset in datasets if not makes_itself(dataset)]
        for dataset in foreign:
            for kind, path in _needs(dataset):
                wanted.setdefault(path, kind)
        if not foreign:
            continue
        evaluators = cfg.get(f"{split}_evaluator") or []
        for evaluator in [evaluators] if isinstance(evaluators, Mapping) else evaluators:
            if isinstance(evaluator.get("ann_file"), str) and is_local(evaluator):
                wanted.setdefault(evaluator["ann_file"], "evaluator's annotation file")
    return [
        (kind, path)
        for path, kind in wanted.items()
        if "://" not in path and not Path(path).exists()
    ]


def makes_itself(dataset: Mapping) -> bool:
    """Whether a data set writes its own files when it is first used."""
    kind = full_type(dataset)
    make = dataset.get("make", kind.startswith("mmeffvit.Digits"))
    return kind.startswith("mmeffvit.") and make is not None and make is not False


def _needs(dataset: Mapping) -> Iterator[tuple[str, str]]:
    """Paths put together as mmengine's BaseDataset does it."""
    root = dataset.get("data_root") or ""
    if not is_local(dataset) or not isinstance(root, str):
        return
    if root and type_name(dataset).endswith("RoomDataset"):
        yield "folder of rooms", root
    if dataset.get("ann_file") and isinstance(dataset["ann_file"], str):
        yield "annotation file", os.path.join(root, dataset["ann_file"])
    for transform in dataset.get("pipeline") or []:
        if type_name(transform) == "ObjectSample" and transform.get("info_path"):
            yield "object database", transform["info_path"]
    prefix = dataset.get("data_prefix") or {}
    if type_name(dataset) == "ImageNet":
        prefix = prefix or dataset.get("split") or {}
    for key, folder in prefix.items() if isinstance(prefix, Mapping) else [("img", prefix)]:
        if key.startswith("label") and dataset.get("with_label") is False:
            continue
        if isinstance(folder, str) and os.path.join(root, folder):
            kinds = (kind for start, kind in _FOLDERS.items() if key.startswith(start))
            yield next(kinds, "image folder"), os.path.join(root, folder)


def is_local(item: Mapping) -> bool:
    """Whether the files of a data set or an evaluator lie on disks of this machine."""
    return (item.get("backend_args") or {}).get("backend", "local") in ("local", "atomic_local")


def check_data(cfg: Config, splits: Sequence[str]) -> None:
    """Raise a LaunchError of one sentence if data is missing; see :func:`find_missing_data`."""
    missing = find_missing_data(cfg, splits)
    if not missing:
        return
    kind, path = missing[0]
    more = len(missing) - 1
    others = f", as {'is' if more == 1 else 'are'} {more} more of this config" if more else ""
    raise LaunchError(
        f"The {kind} {path} is missing (looked for at {Path(path).resolve()}){others}: "
        f"{_advice(kind, cfg.get('default_scope'))}."
    )


def _advice(kind: str, scope: str | None) -> str:
    if kind == "object database":
        return (
            "write it by `python tools/build_object_database.py CONFIG`, or leave ObjectSample out"
        )
    elsewhere = "say --data-root DIR if the data lies elsewhere, or train without it by"
    if scope == "mmeffvit":
        return f"{elsewhere} `make demo-points`"
    layout, name, inner = _LAYOUTS.get(scope, _LAYOUTS["mmdet"])
    return (
        f"{elsewhere} `make demo`, or on digits in {name}'s layout by `python "
        f"tools/export_digits.py --layout {layout} --out data/digits_{layout}` and then "
        f"--data-root data/digits_{layout}{inner}"
    )
