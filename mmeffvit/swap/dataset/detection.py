"""Detectors: any data set of mmdet becomes a CocoDataset."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import Any

from mmeffvit.configs import plain, type_name, walk
from mmeffvit.datasets.layouts import FolderData
from mmeffvit.swap import upstream
from mmeffvit.swap.changes import Draft
from mmeffvit.swap.dataset import loaders
from mmeffvit.swap.dataset.counts import set_counts
from mmeffvit.swap.errors import SwapError

#: what detectors learn from
KIND = "boxes"
#: arguments of metrics that write files for a server
_FOR_SERVERS = ("format_only", "outfile_prefix")
#: arguments that V3Det has for its thirteen thousand classes
_FOR_MANY_CLASSES = ("use_mp_eval", "proposal_nums")


def set_data(draft: Draft, data: FolderData) -> list[str]:
    """Write a data set into a config of mmdet.

    Returns:
        What is left to say.

    Raises:
        SwapError: The model wants what the data does not have.
    """
    model = draft.get(("model",))
    kind = type_name(model)
    masks = _learns_masks(draft)
    if masks and "masks" not in data.kinds:
        if kind not in upstream.MASKS_FROM_BOXES:
            instead = upstream.WITHOUT_MASKS.get(kind, upstream.BOXES_ALONE)
            raise SwapError(
                f"{kind} learns masks, and {data.root} has boxes alone. Take a detector, such as "
                f"{instead}, or one that learns masks from boxes, "
                f"{next(iter(upstream.MASKS_FROM_BOXES.values()))}."
            )
        masks = False
    if any(type_name(step) == "LoadProposals" for _, step in loaders.iter_steps(draft)):
        raise SwapError(
            f"{kind} reads proposals of another network from a file, which your data does not "
            "have. Take a config of FasterRCNN, which makes its own."
        )
    _leave_label_maps(draft)
    meta = {"classes": data.classes, "palette": _palette(len(data.classes))}
    for split in loaders.SPLITS:
        own = data.split(split)
        entries = {
            "type": "CocoDataset",
            "data_root": data.root.as_posix(),
            "ann_file": own.annotations,
            "data_prefix": {"img": own.images},
            "metainfo": meta,
        }
        for place in loaders.iter_datasets(draft, split):
            loaders.set_entries(draft, place, entries, data)
            if split != "train" and not draft.get((*place, "test_mode")):
                draft.set((*place, "test_mode"), True, "every image is evaluated")
    _set_evaluators(draft, data, masks)
    if not masks and "masks" not in data.kinds:
        for place, step in loaders.iter_steps(draft):
            if step.get("with_mask"):
                draft.set((*place, "with_mask"), False, "your data has boxes alone")
    set_counts(draft, len(data.classes))
    return _notes(draft)


def _learns_masks(draft: Draft) -> bool:
    parts = (key for place, _ in walk(draft.get(("model",))) for key in place[-1:])
    return any(part in upstream.MASK_PARTS for part in parts) or any(
        "segm" in str(metric.get("metric"))
        for _, own in loaders.evaluators(draft)
        for metric in own
    )


def _leave_label_maps(draft: Draft) -> None:
    """What learns from label maps beside objects goes; panoptic models become those of objects."""
    why = "your data has no label maps beside the objects"
    model = draft.get(("model",))
    alone = upstream.OBJECTS_ALONE.get(type_name(model))
    if alone is not None:
        draft.set(("model", "type"), alone, why)
    for place, value in list(walk(plain(model))):
        fusion = place and place[-1] == "panoptic_fusion_head"
        if place and place[-1] in upstream.SEMANTIC_PARTS and isinstance(value, Mapping):
            if not fusion or alone is not None:
                draft.remove(("model", *place), why)
        elif place and place[-1] == "pad_seg" and value:
            draft.set(("model", *place), False, why)
    for key, value in (("panoptic_on", False), ("semantic_on", False), ("instance_on", True)):
        if draft.get(("model", "test_cfg", key)) is not None:
            draft.set(("model", "test_cfg", key), value, why)
    for place, step in loaders.iter_steps(draft):
        if type_name(step) == "LoadPanopticAnnotations":
            new = {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True}
            draft.set(place, new, why)
        elif type_name(step) == "LoadAnnotations" and step.get("with_seg"):
            draft.remove((*place, "with_seg"), why)
    loaders.drop_steps(draft, ("SegRescale",), why)


def _set_evaluators(draft: Draft, data: FolderData, masks: bool) -> None:
    for key, metrics in loaders.evaluators(draft):
        split = data.split(key.partition("_")[0])
        asked = [m.get("metric") for m in metrics if type_name(m) == "CocoMetric"]
        names = [asked[0]] if asked and isinstance(asked[0], str) else list(*asked[:1])
        proposals = [name for name in names if str(name).startswith("proposal")]
        if proposals:  # proposal_fast stacks what is of several lengths, which NumPy 1.24 refuses
            metric: Any = "proposal"
        elif masks:
            metric = asked[0] if names == ["segm"] else ["bbox", "segm"]
        else:
            metric = "bbox"
        entries = {
            "type": "CocoMetric",
            "ann_file": (data.root / split.annotations).as_posix(),
            "metric": metric,
        }
        loaders.set_metric(draft, key, entries, _FOR_SERVERS)
        many = draft.get((key, "use_mp_eval")) is not None
        for name in _FOR_MANY_CLASSES * many:
            draft.remove((key, name), "for thousands of classes; now as COCO has it")


def _palette(count: int) -> list[tuple[int, int, int]]:
    """Colours that are far apart: hues a golden section from one another."""
    hues = ((0.08 + i * 0.6180339887) % 1.0 for i in range(count))
    return [tuple(round(255 * v) for v in colorsys.hsv_to_rgb(hue, 0.75, 0.95)) for hue in hues]


def _notes(draft: Draft) -> list[str]:
    model = draft.get(("model",))
    notes = []
    if model.get("teacher_ckpt"):
        notes.append(
            f"model.teacher_ckpt stays {model['teacher_ckpt']!r}: the teacher was trained on other "
            "classes. Where the student learns from its scores, train a teacher on your data first."
        )
    if "MultiSource" in type_name(draft.get(("train_dataloader", "sampler"))):
        notes.append(
            "Your training images serve with labels, and once more as the unlabelled ones; put "
            "others into the second data set of train_dataloader if you have them."
        )
    return notes
