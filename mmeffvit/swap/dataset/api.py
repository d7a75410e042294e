"""One call plans another data set in a config of mmdet, mmseg or mmpretrain; one sets it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmeffvit import compat
from mmeffvit.configs import plain, type_name
from mmeffvit.datasets.layouts import FolderData, LayoutError, Options, describe
from mmeffvit.engine.launch import load_config
from mmeffvit.errors import did_you_mean
from mmeffvit.swap import leftovers, upstream
from mmeffvit.swap.changes import Draft, Edit
from mmeffvit.swap.dataset import classification, detection, schedule, segmentation
from mmeffvit.swap.errors import SwapError

DATASET_RECIPES = ("keep", "small-data")
_TOOLBOXES = {"mmdet": detection, "mmseg": segmentation, "mmpretrain": classification}


@dataclass(frozen=True)
class DatasetPlan:
    """What is in a folder of data, and what a config says afterwards. Made by `plan_dataset`.

    Attributes:
        data: The folder.
        source: File of the config; None if it is of none.
        edits: All changes of the config, in order.
        notes: What is as it was and should be known, and what was decided about the data.
    """

    data: FolderData
    source: str | None
    edits: tuple[Edit, ...]
    notes: tuple[str, ...]

    def apply(self, cfg: Config) -> Config:
        """Carry the plan out on a copy of the config that it was made for.

        Returns:
            What `set_dataset` returns.

        Raises:
            SwapError: It is another config.
        """
        tree = _tree(cfg)
        for edit in self.edits:
            edit.apply(tree)
        tree["dataset_swap"] = {
            "data": str(self.data),
            "source": Path(self.source).name if self.source else None,
            "notes": list(self.notes),
            "changes": [edit.as_dict() for edit in self.edits],
        }
        name = f"{Path(self.source).stem if self.source else 'config'}_{self.data.root.name}.py"
        return Config(tree, cfg_text=f"# {name}: made by mmeffvit.set_dataset", filename=name)


def set_dataset(cfg: Config | str | os.PathLike, data: str | os.PathLike, **options: Any) -> Config:
    """Rewrite a config of mmdet, mmseg or mmpretrain so that it trains on a folder of your data.

    What lies in the folder is found out: for detectors annotations in COCO's format under any file
    names, YOLO's or Pascal VOC's; for segmentors folders of images and label maps; for classifiers
    a folder of images per class. What the toolbox does not read as it is gets written, whole, to
    ``DATA/.mmeffvit`` (your files stay as they are). Rewritten are data sets of all loaders in all
    their wrappers, evaluators, class names, and the number of classes in every head and loss.

    Args:
        cfg: A config, its file, or an upstream name such as
            ``'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'``. Not changed.
        data: The folder, an annotation file in COCO's format, or YOLO's ``data.yaml``.
        **options: What the folder does not say itself, all of it optional:
            `recipe`: ``'keep'`` leaves batches and schedule; ``'small-data'`` fits them to the
            number of images, see `mmeffvit.swap.dataset.schedule`. `steps`: with it, how many
            optimizer steps are trained. `layout`: name of the layout, where there are several.
            `classes`: names, where no file has them. `train`, `val`, `test`: annotation files.
            `reduce_zero_label`: whether 0 is no class in label maps. `palette`: RGB of each of the
            `classes`, for label maps in colours. `cache`: folder for what is written.

    Returns:
        A config that stands alone. ``cfg.dataset_swap`` says what was done: ``data``, ``source``,
        ``notes`` and ``changes``, each with ``path``, ``old``, ``new`` and ``why``.

    Raises:
        SwapError: The config or the folder cannot serve; the message says why.
    """
    known = [*inspect.signature(plan_dataset).parameters][2:]
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known) or "."
            raise SwapError(f"There is no option {name!r}{hint} There are {', '.join(known)}.")
    cfg = _read(cfg)
    return plan_dataset(cfg, data, **options).apply(cfg)


def plan_dataset(
    cfg: Config | str | os.PathLike,
    data: str | os.PathLike,
    *,
    recipe: str = "keep",
    steps: int | None = None,
    layout: str | None = None,
    classes: Sequence[str] | str | None = None,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    reduce_zero_label: bool | None = None,
    cache: str | os.PathLike | None = None,
    palette: Sequence[Sequence[int]] = (),
) -> DatasetPlan:
    """Find out what `set_dataset` would do; the arguments and the errors are its own.

    Annotations that have to be converted are written here already.
    """
    if recipe not in DATASET_RECIPES:
        raise SwapError(f"recipe={recipe!r} is not known; there are {', '.join(DATASET_RECIPES)}.")
    if steps is not None and not (type(steps) is int and steps > 0):
        raise SwapError(f"steps={steps!r} is no number of optimizer steps, such as 2000.")
    colours = [tuple(c) if isinstance(c, (list, tuple)) else c for c in palette]
    if not all(isinstance(colour, tuple) for colour in colours):
        raise SwapError(f"palette={palette!r} is no list of colours, such as [[128,64,128]].")
    cfg = _read(cfg)
    draft = Draft(_tree(cfg), ("model",))
    toolbox = _TOOLBOXES.get(draft.scope)
    if toolbox is None:
        raise SwapError(
            f"A config of {draft.scope} is not known here; data sets are set in configs of "
            f"{', '.join(_TOOLBOXES)}, which say default_scope."
        )
    _refuse(draft)
    files = {"train": train, "val": val, "test": test}
    given = Options(
        classes=(classes,) if isinstance(classes, str) else tuple(map(str, classes or ())),
        files={name: path for name, path in files.items() if path is not None},
        reduce_zero_label=reduce_zero_label,
        cache=None if cache is None else os.fspath(cache),
        palette=tuple(colours),
    )
    try:
        found = describe(data, toolbox.KIND, layout=layout, options=given)
    except LayoutError as error:
        raise SwapError(str(error)) from error
    notes = list(found.notes)
    notes += toolbox.set_data(draft, found)
    leftovers.embed_teacher(draft)
    leftovers.remove_copies(draft)
    for key in upstream.DATASET_VARIABLES:
        draft.remove((key,), "a variable of the file; nothing reads it")
    if draft.get(("load_from",)):
        notes.append(
            f"load_from stays {draft.get(('load_from',))!r}: where its number of classes is "
            "another, the last layers start from random weights."
        )
    num_images = found.split("train").num_images
    if recipe == "small-data":
        schedule.set_small_data(draft, num_images, steps)
    else:
        notes += schedule.notes_of_kept_schedule(draft, num_images)
    return DatasetPlan(found, cfg.filename, tuple(draft.edits), tuple(notes))


def _read(cfg: Config | str | os.PathLike) -> Config:
    compat.setup()
    return cfg if isinstance(cfg, Config) else load_config(os.fspath(cfg))


def _tree(cfg: Config) -> dict[str, Any]:
    """The entries of a config, without the report of an earlier call."""
    tree = plain(cfg)
    tree.pop("dataset_swap", None)
    return tree


def _refuse(draft: Draft) -> None:
    model = draft.get(("model",))
    if not isinstance(model, Mapping):
        raise SwapError(
            "The config has no model=dict(...), so there are no heads to fit to a data set; give "
            "the config that is trained, not one of its bases."
        )
    reason = upstream.FIXED_DATA.get(type_name(model))
    if reason is None and "text_encoder" in model:
        reason = "its classes are words that a text encoder has read"
    if reason is not None:
        raise SwapError(f"{type_name(model)} cannot be given another data set: {reason}.")
    if not draft.get(("train_dataloader",)):
        raise SwapError(
            "The config has no train_dataloader, so there is no data set to replace; give the "
            "config that is trained."
        )
