"""Checks before the first step: whether what is in the files fits the config.

What a file must have depends on who reads it: the classes of the data set, the heads and losses of
the model, the steps of the pipeline and the evaluator. Here they are read from the config, and
`mmeffvit.datasets.checks` looks at the files. Annotation files are read whole; of images, label
maps and clouds some are opened, evenly from the first to the last.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DATASETS, DefaultScope

from mmeffvit.configs import lookup, type_name, walk
from mmeffvit.datasets import checks
from mmeffvit.datasets.checks import Finding
from mmeffvit.datasets.checks.findings import error, merge, shorten, warning
from mmeffvit.datasets.checks.folders import class_folders
from mmeffvit.datasets.checks.names import NO_CLASS, check_classes
from mmeffvit.engine.data import check_data, is_local, iter_datasets, makes_itself
from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.launch import Notes

#: images, label maps or clouds of a data set that are opened
SAMPLE = 24


#: bytes of an annotation file from which on reading it takes seconds
_LARGE = 50_000_000


def preflight(cfg: Config, splits: Sequence[str], sample: int = SAMPLE) -> Notes:
    """Check the data of a config, and stop if something is wrong.

    Of several processes the first one looks.

    Args:
        cfg: A config of an OpenMMLab toolbox.
        splits: Of ``'train'``, ``'val'``, ``'test'``.
        sample: How many images, label maps or clouds of each data set are opened.

    Returns:
        Notes for the log: what is only suspicious, and what was looked at.

    Raises:
        LaunchError: Data is missing, or does not fit; the message has every error.
    """
    check_data(cfg, splits)
    if os.environ.get("RANK", "0") != "0":
        return []
    start = time.monotonic()
    findings = find_problems(cfg, splits, sample)
    seconds = time.monotonic() - start
    errors = [str(finding) for finding in findings if finding.level == "error"]
    if errors:
        numbered = "\n".join(f"  {number}. {text}" for number, text in enumerate(errors, 1))
        count = "one error" if len(errors) == 1 else f"{len(errors)} errors"
        raise LaunchError(
            f"The data and the config do not fit together, {count}:\n{numbered}\n"
            "--no-preflight starts all the same."
        )
    notes = [(logging.WARNING, f"Check your data: {finding}") for finding in findings]
    looked = (
        f"The data was checked in {seconds:.1f} s: annotations whole, at most {sample} images, "
        "label maps or clouds of each data set (--no-preflight leaves this out)"
    )
    return [*notes, (logging.INFO, looked)]


def find_problems(cfg: Config, splits: Sequence[str], sample: int = SAMPLE) -> list[Finding]:
    """All that the checks see in the data of a config, errors first, each once."""
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope") or "mmengine"):
        datasets = [*_datasets(cfg, splits)]
        per_dataset = [_check_dataset(cfg, data, sample) for data in datasets]
        findings = [finding for own in per_dataset for finding in own]
        # names that a class has for want of others are not what heads are to be counted by
        right = [
            data
            for data, own in zip(datasets, per_dataset)
            if data.named_classes is not None or all(f.level != "error" for f in own)
        ]
        findings += _check_counts(cfg, right)
        findings += _check_same(cfg, datasets)
        findings += _check_evaluators(cfg, datasets)
    return sorted(merge(findings), key=lambda finding: finding.level != "error")


# -- data sets -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """A data set of a config, and what its class says where the config is silent.

    Attributes:
        split: 'train', 'val' or 'test'.
        cfg: Its config.
        kind: Its class.
        measured: Files that the evaluators of the split read.
        alone: Whether it is all data of its split.
    """

    split: str
    cfg: Mapping
    kind: type
    measured: tuple[str, ...] = ()
    alone: bool = True

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.split}_dataloader.dataset ({self.kind.__name__})"

    def get(self, key: str, default: Any = None) -> Any:
        """An argument: of the config, or else the default of its class."""
        if key in self.cfg:
            return self.cfg[key]
        for kind in self.kind.__mro__:
            found = inspect.signature(kind.__init__).parameters.get(key)
            if found is not None and found.default is not inspect.Parameter.empty:
                return found.default
        return default

    def path(self, *parts: Any) -> str:
        """A path below ``data_root``."""
        return os.path.join(self.cfg.get("data_root") or "", *(part or "" for part in parts))

    def prefix(self, *keys: str) -> str:
        """The folder that ``data_prefix`` has under the first of these keys that is there."""
        prefixes = self.get("data_prefix") or {}
        if isinstance(prefixes, str):
            return self.path(prefixes)
        return self.path(next((prefixes[key] for key in keys if prefixes.get(key)), ""))

    @functools.cached_property
    def named_classes(self) -> Any:
        """``classes`` of the config as they stand there, None if it has none."""
        metainfo = self.cfg.get("metainfo") or {}
        given = self.cfg.get("classes") or (
            metainfo.get("classes") if isinstance(metainfo, Mapping) else None
        )
        if isinstance(given, str) and os.path.isfile(given):
            return tuple(line.strip() for line in Path(given).read_text().splitlines() if line)
        return given

    @functools.cached_property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, None if they are not known or not names."""
        given = self.named_classes
        if given is None:
            given = (getattr(self.kind, "METAINFO", None) or {}).get("classes")
            if type_name(self.cfg) == "ScanNetRoomDataset" and self.get("num_classes") != 20:
                return None
        if given is None and self.layout == "folders" and not self.ann_file:
            root = self.image_root
            given = class_folders(root) if os.path.isdir(root) else None
        return None if isinstance(given, str) or not given else tuple(given)

    @property
    def layout(self) -> str | None:
        """Which check knows its files; None if a class reads them in its own way."""
        for base, (module, layout, methods) in _LAYOUTS.items():
            for kind in self.kind.__mro__:
                if kind.__name__ == base and kind.__module__.startswith(module):
                    own = any(getattr(self.kind, m) is not getattr(kind, m) for m in methods)
                    return None if own else layout
        return None

    @property
    def ann_file(self) -> str:
        """Path of the annotation file, '' if there is none."""
        given = self.get("ann_file") or ""
        if self.kind.__name__ == "ImageNet" and not given and self.cfg.get("split"):
            given = os.path.join("meta", f"{self.cfg['split']}.txt")
            given = given if os.path.isfile(self.path(given)) else ""
        return self.path(given) if given else ""

    @property
    def image_root(self) -> str:
        """The folder with the folders of classes."""
        prefix = self.get("data_prefix") or self.cfg.get("split") or ""
        if isinstance(prefix, Mapping):
            return self.prefix("img_path", "img")
        return self.path(prefix)

    @property
    def eight_bits(self) -> bool:
        """Whether the pipeline reads 8 bits of images that have more, as cv2 does by default."""
        return any(
            step.get("color_type", "color") != "unchanged"
            and step.get("imdecode_backend") in (None, "cv2")
            for step in self.steps("LoadImageFromFile")
        )

    def steps(self, *names: str) -> Iterator[Mapping]:
        """Steps of the pipeline whose class has one of these names, those in wrappers too."""
        for _, step in walk(self.cfg.get("pipeline") or []):
            if type_name(step) in names:
                yield step


#: base class -> toolbox, check, and methods that must be its own for the check to know its files
_LAYOUTS = {
    "CocoDataset": ("mmdet", "coco", ("load_data_list", "parse_data_info", "COCOAPI")),
    "BaseSegDataset": ("mmseg", "label maps", ("load_data_list",)),
    "CustomDataset": ("mmpretrain", "folders", ("load_data_list", "_find_samples")),
    "KittiSweepDataset": ("mmeffvit", "kitti", ("load_data_list",)),
    "WaymoSweepDataset": ("mmeffvit", "waymo", ("load_data_list",)),
    "RoomDataset": ("mmeffvit", "rooms", ("load_data_list",)),
}


def _datasets(cfg: Config, splits: Sequence[str]) -> Iterator[Data]:
    for split in splits:
        inner = list(iter_datasets((cfg.get(f"{split}_dataloader") or {}).get("dataset")))
        evaluators = _as_list(cfg.get(f"{split}_evaluator"))
        measured = tuple(e["ann_file"] for e in evaluators if isinstance(e.get("ann_file"), str))
        for dataset in inner:
            kind = dataset.get("type")
            kind = _class(kind) if isinstance(kind, str) else kind
            local = is_local(dataset) and "://" not in str(dataset.get("data_root"))
            if inspect.isclass(kind) and not makes_itself(dataset) and local:
                yield Data(split, dataset, kind, measured, len(inner) == 1)


def _class(name: str) -> type | None:
    """The class of a data set in the default scope."""
    with DATASETS.switch_scope_and_registry(None) as registry:
        return registry.get(name)


def _as_list(value: Any) -> list[Mapping]:
    values = [value] if isinstance(value, Mapping) else value or []
    return [item for item in values if isinstance(item, Mapping)]


def _check_dataset(cfg: Config, data: Data, sample: int) -> list[Finding]:
    findings = _check_metainfo(data)
    if not findings and data.layout is not None:
        try:
            findings += _CHECKS[data.layout](cfg, data, sample)
        except Exception as problem:  # a check that fails must not keep a run from starting
            kind = type(problem).__name__
            findings.append(warning(data.name, f"could not be checked: {kind}: {problem}"))
    return findings


def _check_metainfo(data: Data) -> list[Finding]:
    metainfo = data.cfg.get("metainfo") or {}
    if not isinstance(metainfo, Mapping):
        return []
    for key in metainfo:
        if key != "classes" and key.lower() == "classes":
            todo = "Write metainfo=dict(classes=...), in small letters"
            return [error(data.name, f"metainfo has {key!r}, which nothing reads", todo=todo)]
    given = data.named_classes
    return [] if given is None else check_classes(given, data.name)


def _check_coco(cfg: Config, data: Data, sample: int) -> list[Finding]:
    if not data.ann_file or "://" in data.ann_file:
        return []
    if os.path.getsize(data.ann_file) > _LARGE:
        print_log(f"Checking {data.ann_file} ...", logger="current")
    with_masks = any(step.get("with_mask") for step in data.steps("LoadAnnotations"))
    findings = checks.check_coco(
        data.ann_file,
        data.classes,
        data.prefix("img", "img_path"),
        with_masks=with_masks and bool(_reads_masks(cfg, data)),
        measured=any(_same_file(data.ann_file, path) for path in data.measured),
        # images of semi-supervised training have no objects
        training=data.split == "train" and not any(data.steps("LoadEmptyAnnotations")),
        sample=sample,
        eight_bits=data.eight_bits,
    )
    if data.named_classes is None and data.classes is not None:
        missing = [finding for finding in findings if finding.what.startswith(NO_CLASS)]
        if missing:
            what = f"has no metainfo, so that classes are the {len(data.classes)} of its class"
            findings.insert(0, error(data.name, what, todo="Set metainfo=dict(classes=(...))"))
    return findings


def _reads_masks(cfg: Config, data: Data) -> bool:
    """Whether masks that a pipeline loads are needed: for training, or to be measured."""
    if data.split == "train":
        return True
    metrics = [e.get("metric") or () for e in _as_list(cfg.get(f"{data.split}_evaluator"))]
    return any("segm" in metric for metric in metrics)


def _check_label_maps(cfg: Config, data: Data, sample: int) -> list[Finding]:
    prefixes = data.get("data_prefix") or {}
    pairs, findings = checks.list_label_maps(
        data.prefix("img_path"),
        data.prefix("seg_map_path") if "seg_map_path" in prefixes else None,
        data.get("img_suffix", ".jpg"),
        data.get("seg_map_suffix", ".png"),
        data.ann_file,
    )
    reduce_zero_label = bool(data.get("reduce_zero_label", False))
    backend = "pillow"
    for step in data.steps("LoadAnnotations"):
        backend = step.get("imdecode_backend") or backend
        own = step.get("reduce_zero_label")
        if own is not None and bool(own) != reduce_zero_label:
            what = f"reduce_zero_label is {reduce_zero_label}, but {own} in its pipeline"
            todo = "Set it in the data set, and leave it out of LoadAnnotations"
            findings.append(error(data.name, what, todo=todo))
    if data.classes is None:
        what = "the data set names no classes"
        return [*findings, error(data.name, what, todo="Set metainfo=dict(classes=(...))")]
    numbered = (getattr(data.kind, "METAINFO", None) or {}).get("classes") or data.classes
    foreign = [name for name in data.classes if name not in numbered]
    if foreign:
        what = f"classes are none of {data.kind.__name__}'s, whose numbers are in its label maps"
        todo = "Take BaseSegDataset for classes of your own"
        return [*findings, error(data.name, what, foreign, todo)]
    return findings + checks.check_label_maps(
        pairs,
        len(numbered),
        reduce_zero_label,
        data.get("ignore_index", 255),
        training=data.split == "train",
        backend=backend,
        sample=sample,
        eight_bits=data.eight_bits,
    )


def _check_folders(cfg: Config, data: Data, sample: int) -> list[Finding]:
    if data.get("with_label", True) is False or data.cfg.get("split") == "test":
        return []
    known = data.classes
    if data.ann_file:
        number = None if known is None else len(known)
        return checks.check_class_list(
            data.ann_file, data.image_root, number, sample, data.eight_bits
        )
    others = None
    if data.split != "train":
        trained = [d for d in _datasets(cfg, ["train"]) if d.layout == "folders" and not d.ann_file]
        if trained and os.path.isdir(trained[0].image_root):
            others = class_folders(trained[0].image_root)
    named = data.named_classes or (getattr(data.kind, "METAINFO", None) or {}).get("classes")
    kinds = tuple(suffix.lower() for suffix in data.get("extensions") or checks.SUFFIXES)
    return checks.check_class_folders(
        data.image_root, named, others, kinds, sample, data.eight_bits
    )


def _points_options(cfg: Config, data: Data) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for step in data.steps("LoadPointsFromFile"):
        options = {k: step[k] for k in ("load_dim", "use_dim", "norm_intensity") if k in step}
    layer = lookup(cfg, ("model", "data_preprocessor", "voxel_layer"), {})
    options["point_cloud_range"] = layer.get("point_cloud_range")
    return options


def _check_kitti(cfg: Config, data: Data, sample: int) -> list[Finding]:
    folders = {"pts": "velodyne", "label": "label_2", "calib": "calib"}
    folders = {kind: f"training/{name}" for kind, name in folders.items()}
    folders.update(data.cfg.get("data_prefix") or {})
    return checks.check_kitti(
        data.ann_file,
        {kind: data.path(folder) for kind, folder in folders.items()},
        data.classes or (),
        labelled=data.cfg.get("with_label", True),
        sample=sample // 2,
        **_points_options(cfg, data),
    )


def _check_waymo(cfg: Config, data: Data, sample: int) -> list[Finding]:
    prefix = (data.cfg.get("data_prefix") or {}).get("pts", "training/velodyne")
    return checks.check_waymo(
        data.ann_file,
        {"pts": data.path(prefix)},
        data.classes or (),
        data.kind.METAINFO["classes"],
        labelled=data.cfg.get("with_label", True),
        sample=sample // 2,
        **_points_options(cfg, data),
    )


def _check_rooms(cfg: Config, data: Data, sample: int) -> list[Finding]:
    try:
        dataset = data.kind(**{**_arguments(data.cfg), "pipeline": [], "serialize_data": False})
    except (FileNotFoundError, ValueError) as problem:
        return [error(data.name, str(problem))]
    loads = [step.get("keys") for step in data.steps("LoadRoomFromFile")]
    return checks.check_rooms(
        list(dict.fromkeys(info["lidar_path"] for info in dataset.data_list)),
        dataset.semantic_key,
        dataset.metainfo["classes"],
        dataset.ignore_index,
        loads[0] if loads and loads[0] else ("coord", "color"),
        sample=sample // 4,
    )


def _arguments(cfg: Mapping) -> dict[str, Any]:
    return {key: value for key, value in cfg.items() if key not in ("type", "pipeline")}


_CHECKS: dict[str, Callable[[Config, Data, int], list[Finding]]] = {
    "coco": _check_coco,
    "label maps": _check_label_maps,
    "folders": _check_folders,
    "kitti": _check_kitti,
    "waymo": _check_waymo,
    "rooms": _check_rooms,
}

# -- what must agree -------------------------------------------------------------------------------


def _check_same(cfg: Config, datasets: Sequence[Data]) -> list[Finding]:
    """Whether data sets of one config number the classes alike."""
    if _takes_words(cfg):
        return []
    findings = []
    known = [data for data in datasets if data.classes is not None and data.layout is not None]
    for data in known[1:]:
        first = known[0]
        if first.layout == data.layout == "folders":
            continue  # compared by their folders
        if data.classes != first.classes:
            what = f"classes are {_listed(data.classes)}"
            what += f", but {_listed(first.classes)} in {first.name}"
            findings.append(error(data.name, what, todo="Give both the same metainfo"))
        reduced = [bool(d.get("reduce_zero_label", False)) for d in (first, data)]
        if first.layout == data.layout == "label maps" and reduced[0] != reduced[1]:
            what = f"reduce_zero_label is {reduced[1]}, but {reduced[0]} in {first.name}"
            findings.append(error(data.name, what, todo="Give both the same"))
    return findings


def _check_evaluators(cfg: Config, datasets: Sequence[Data]) -> list[Finding]:
    """Whether evaluators read the files of their data sets, and know the classes."""
    findings = []
    for data in datasets:
        name = f"{data.split}_evaluator"
        for path in data.measured if data.alone and data.layout == "coco" else ():
            if not _same_file(data.ann_file, path):
                what = f"reads {path}, but the data set {data.ann_file}"
                findings.append(error(name, what, todo="Give both the same ann_file"))
        for evaluator in _as_list(cfg.get(name)):
            number = len(data.classes or ()) or None
            findings += _check_number(evaluator, name, number)
            if type_name(evaluator) == "PointDetMetric" and data.classes:
                given = {*(evaluator.get("iou_thrs") or {}), "Car", "Pedestrian", "Cyclist"}
                lacking = [name for name in data.classes if name not in given]
                if lacking:
                    what = "PointDetMetric has no overlap from which objects of a class count"
                    todo = f"Set iou_thrs=dict({lacking[0]}=0.5, ...)"
                    findings.append(error(name, what, lacking, todo))
    return findings


def _same_file(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({shorten(names)})"


# -- numbers of classes ----------------------------------------------------------------------------

#: parts of a model that tell other things apart: foreground, stuff, what another network was made
#: for, boundaries
_OTHER_CLASSES = (
    "rpn_head",
    "semantic_head",
    "backbone",
    "teacher",
    "reid",
    "train_cfg",
    "test_cfg",
)
_WITHOUT_CLASSES = ("RPN", "STDCHead")
#: models whose classes are words
_OPEN_VOCABULARY = ("language_model", "text_encoder")
_COUNTS = ("num_classes", "num_things_classes")


def _check_counts(cfg: Config, datasets: Sequence[Data]) -> list[Finding]:
    """Whether heads and losses of the model have as many classes as the data."""
    model = cfg.get("model") or {}
    known = [data for data in datasets if data.classes is not None and data.layout is not None]
    if not known or _takes_words(cfg):
        return []
    data = known[0]
    number, findings = len(data.classes), []
    for place, part in walk({"model": model}):
        if not isinstance(part, Mapping) or not _tells_classes(model, place):
            continue
        if type_name(part) in _WITHOUT_CLASSES:
            continue
        name = ".".join(map(str, place))
        findings += _check_number(part, name, number, data)
    preprocessor = cfg.get("data_preprocessor")
    if data.layout == "folders" and isinstance(preprocessor, Mapping):
        findings += _check_number(preprocessor, "data_preprocessor", number, data)
    return findings


def _takes_words(cfg: Config) -> bool:
    """Whether classes are words to the model, of which each data set may have others."""
    return any(key in (cfg.get("model") or {}) for key in _OPEN_VOCABULARY)


def _tells_classes(model: Mapping, place: tuple) -> bool:
    """Whether a part of a model tells the classes of the data apart."""
    keys = [key for key in place if isinstance(key, str)]
    if any(key.startswith(other) for key in keys for other in _OTHER_CLASSES):
        return False
    parents = [lookup({"model": model}, place[:end]) for end in range(1, len(place) + 1)]
    return not any(type_name(parent) in _WITHOUT_CLASSES for parent in parents)


def _check_number(
    part: Mapping, name: str, number: int | None, data: Data | None = None
) -> list[Finding]:
    """Whether ``num_classes``, ``topk`` and the weights of a loss suit a number of classes."""
    if number is None:
        return []
    findings = []
    there = f"the data has {number}"
    if data is not None:
        there = f"{data.name} has {_listed(data.classes)}"
    for key in _COUNTS:
        value = part.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value != number:
            if key == "num_things_classes" and part.get("num_stuff_classes"):
                continue
            what = f"{key}={value}, but {there}"
            findings.append(error(name, what, todo=f"Set {name}.{key}={number}"))
    outputs = part.get("out_channels")
    if isinstance(part.get("num_classes"), int) and isinstance(outputs, int):
        single = number == 2 and outputs == 1
        if "loss_decode" in part and outputs != number and not single:
            what = f"out_channels={outputs}, but {there}"
            findings.append(error(name, what, todo=f"Set {name}.out_channels={number}"))
    weights = part.get("class_weight")
    # queries have one weight more, for nothing there
    if isinstance(weights, (list, tuple)) and len(weights) not in (number, number + 1):
        what = f"class_weight has {len(weights)} entries, but {there}"
        findings.append(error(name, what, todo="Give one weight for each class"))
    topk = part.get("topk")
    values = [topk] if isinstance(topk, int) else topk
    # in heads and metrics of mmpretrain it counts classes; assigners count boxes
    counts = type_name(part) == "Accuracy" or {"loss", "num_classes"} <= part.keys()
    if counts and isinstance(values, (list, tuple)) and max(values, default=0) > number:
        fitting = tuple(value for value in values if value <= number) or (1,)
        what = f"topk={topk}, but {there}"
        findings.append(error(name, what, todo=f"Set {name}.topk={fitting}"))
    return findings
