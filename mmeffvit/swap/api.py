"""One call puts a backbone of ours into a config of mmdet or mmseg."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path as File
from typing import Any

import torch
from mmengine.config import Config

from mmeffvit import compat
from mmeffvit.models import zoo
from mmeffvit.models.backbones import BaseBackbone
from mmeffvit.swap import leftovers, readers
from mmeffvit.swap import recipe as recipes
from mmeffvit.swap.changes import Editor, Path, plain
from mmeffvit.swap.errors import SwapError
from mmeffvit.swap.levels import Level, measure_backbone, measure_neck
from mmeffvit.swap.locate import find_owner

RECIPES = ("keep", "adamw")

#: networks that are no pyramids, or are one design with what reads them
_REFUSED = {
    "SSDVGG": "SSD goes on with the layers of VGG down to maps of one cell and scales its first "
    "map; there is no pyramid of strides 4, 8, 16, 32 to replace",
    "SSDNeck": "SSD's neck goes on with the layers of its backbone down to maps of one cell",
    "Darknet": "YOLO's Darknet, neck and head are one design and are trained as one",
    "CSPDarknet": "YOLO's CSPDarknet, neck and head are one design and are trained as one",
    "YOLOV3Neck": "YOLOv3's neck is built of the blocks of its backbone and trained with it",
    "VisionTransformer": "a plain vision transformer has maps of one stride, and its heads are "
    "written for them",
    "RFP": "a recursive feature pyramid feeds its maps back into the blocks of its backbone "
    "(rfp_forward), which only DetectoRS_ResNet has; neck.type='FPN' without the rfp_* and aspp_* "
    "keys makes a pyramid that can be swapped",
}


def swap_backbone(
    cfg: Config | str | os.PathLike,
    backbone: str,
    *,
    recipe: str = "keep",
    checkpoint: str | os.PathLike | None = None,
    where: str | None = None,
    **options: Any,
) -> Config:
    """Rewrite a config of mmdet or mmseg so that it trains with one of our backbones.

    The old backbone is built without memory for its weights and measured: channels and strides of
    its maps say which of them the neck or the heads read, and which of ours takes their place. Maps
    that nothing reads are not returned. A backbone with dilated stages is followed by
    `mmeffvit.ResizeToStrides`, so that heads get maps as large as before.

    Removed are what belonged to the old backbone alone: its arguments, weights (also those of whole
    models, ``load_from``), normalisation of images, optimizer constructors that number its layers,
    rules for its parameters, and imports for it. Teachers of a distillation keep theirs.

    Args:
        cfg: A config, its file, or an upstream name such as
            ``'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'``. Not changed.
        backbone: One of `mmeffvit.list_backbones`; with `arch` among the options, a family is
            enough.
        recipe: ``'keep'`` leaves the optimizer; ``'adamw'`` sets AdamW, as vision transformers are
            fine-tuned with.
        checkpoint: Weights of the backbone, in our format (see tools/convert_checkpoint.py).
        where: Which backbone, if the config has several, such as ``'reid.backbone'``.
        **options: Arguments of the backbone: ``drop_path_rate``, ``with_cp``, ``frozen_stages``,
            ``out_norm``, ``arch`` ...

    Returns:
        A config that stands alone. ``cfg.backbone_swap`` says what was done: ``backbone``,
        ``source`` and ``changes``, each with ``path``, ``old``, ``new`` and ``why``.

    Raises:
        SwapError: The config cannot take the backbone; the message says why.
    """
    compat.setup()
    if recipe not in RECIPES:
        raise SwapError(f"recipe={recipe!r} is not known; there are {', '.join(RECIPES)}.")
    if not isinstance(cfg, Config):
        from mmeffvit.engine.launch import load_config

        cfg = load_config(os.fspath(cfg))
    source = cfg.filename
    cfg = copy.deepcopy(cfg)
    cfg.pop("backbone_swap", None)
    before = plain(cfg)
    scope = cfg.get("default_scope") or "mmengine"

    editor = Editor(cfg)
    owner = find_owner(cfg, where)
    old_backbone = plain(editor.get((*owner, "backbone")))
    _refuse(old_backbone)
    _drop_branches(editor, owner)
    measured = measure_backbone(old_backbone, scope)
    old = measured.levels
    read = _read_levels(editor, owner, old, scope)
    config, network = _new_backbone(backbone, old_backbone, [old[i] for i in read], options)
    if checkpoint is not None:
        config["init_cfg"] = {"type": "Pretrained", "checkpoint": os.fspath(checkpoint)}

    strides = ", ".join(str(old[i].depth_stride) for i in read)
    editor.set((*owner, "backbone"), config, f"maps of stride {strides} are read")
    _connect(editor, owner, old, read, network, scope)
    leftovers.remove_weights(editor, owner)
    leftovers.set_normalisation(editor, owner)
    leftovers.embed_teacher(editor, owner)
    leftovers.clean_optimizer(editor, owner, measured.parameters, network)
    leftovers.remove_imports(editor, old_backbone)
    if recipe == "adamw":
        recipes.set_adamw(editor, scope)
    leftovers.remove_copies(editor, before)
    cfg.backbone_swap = {
        "backbone": backbone,
        "source": File(source).name if source else None,
        "changes": editor.changes,
    }
    return _stand_alone(cfg, source, backbone)


def _stand_alone(cfg: Config, source: str | None, backbone: str) -> Config:
    """Without the text of the file it was read from, under a name of its own."""
    name = f"{File(source).stem if source else 'config'}_{backbone}.py"
    text = f"# {name}: made by mmeffvit.swap_backbone"
    return Config(cfg._cfg_dict.to_dict(), cfg_text=text, filename=name)


def _refuse(cfg: Mapping[str, Any]) -> None:
    reason = _REFUSED.get(readers.type_name(cfg))
    if reason is not None:
        raise SwapError(f"{readers.type_name(cfg)} cannot be swapped: {reason}.")


def _drop_branches(editor: Editor, owner: Path) -> None:
    """TridentNet's branches are blocks of its backbone; without them it is a Faster R-CNN."""
    why = "the branches were blocks of the old backbone"
    names = {"TridentFasterRCNN": "FasterRCNN", "TridentRoIHead": "StandardRoIHead"}
    for path in (owner, (*owner, "roi_head")):
        part = editor.get(path)
        if isinstance(part, Mapping) and readers.type_name(part) in names:
            editor.set((*path, "type"), names[readers.type_name(part)], why)
            for key in ("num_branch", "test_branch_idx"):
                editor.remove((*path, key), why)


# -- which maps ------------------------------------------------------------------------------------


def _reading_neck(editor: Editor, owner: Path) -> Path | None:
    """The first neck, unless it takes maps as they come, such as a global average."""
    path = (*owner, "neck")
    neck = editor.get(path)
    if isinstance(neck, (list, tuple)) and neck:
        path = (*path, 0)
        neck = neck[0]
    if not isinstance(neck, Mapping):
        return None
    _refuse(neck)
    return path if readers.names_channels(neck) else None


def _read_levels(editor: Editor, owner: Path, old: Sequence[Level], scope: str) -> list[int]:
    """Indices of the maps that anything reads, ascending; checked to be of a pyramid."""
    neck = _reading_neck(editor, owner)
    read: set[int] = set()
    if neck is not None:
        read.update(readers.neck_reads(editor.get(neck), old, scope))
    else:
        for path in readers.iter_heads(editor, owner):
            read.update(readers.head_reads(editor.get(path), old))
    if not read:
        raise SwapError(
            f"Nothing beside the backbone of {editor.get(owner).get('type')!r} names the channels "
            "of its maps, so it is not known which ones are read."
        )
    strides = [lv.depth_stride for lv in old]
    steps = (4, 8, 16, 32)
    if strides != sorted(set(strides)) or not set(strides) <= set(steps) or strides[-1] < steps[2]:
        raise SwapError(
            f"{editor.get((*owner, 'backbone', 'type'))!r} is not a pyramid: its maps have strides "
            f"{', '.join(str(lv.stride) for lv in old)}, and a backbone of ours has one map each "
            "of the strides 4, 8, 16 and 32."
        )
    return sorted(read)


def _new_backbone(
    name: str, old: Mapping[str, Any], levels: Sequence[Level], options: dict[str, Any]
) -> tuple[dict[str, Any], BaseBackbone]:
    """Config of the new backbone, and the backbone on the meta device."""
    classes = zoo.backbone_classes()
    family, arch = (
        zoo.split_name(name) if name in zoo.list_backbones() else (name.partition("-")[0], "")
    )
    if name not in zoo.list_backbones() and not (name in classes and "arch" in options):
        try:
            zoo.create_backbone(name)
        except ValueError as error:
            raise SwapError(str(error)) from None
    cls = classes[family]
    out_indices = tuple((4, 8, 16, 32).index(lv.depth_stride) for lv in levels)
    asked = options.pop("out_indices", out_indices)
    if tuple(asked) != out_indices:
        raise SwapError(
            f"out_indices={tuple(asked)} cannot serve this config, whose neck and heads read maps "
            f"of stride {', '.join(str(lv.depth_stride) for lv in levels)}, which is "
            f"out_indices={out_indices}; leave it out."
        )
    cfg = {"arch": arch, **options, "out_indices": out_indices}
    if old.get("in_channels", 3) != 3:
        cfg.setdefault("in_channels", old["in_channels"])
    try:
        with torch.device("meta"):
            network = cls(**cfg)
    except (TypeError, ValueError) as error:
        raise SwapError(f"The options of {name} are not possible: {error}") from error
    return {"type": f"mmeffvit.{cls.__name__}", **cfg}, network


# -- necks and heads -------------------------------------------------------------------------------


def _connect(
    editor: Editor,
    owner: Path,
    old: Sequence[Level],
    read: list[int],
    network: BaseBackbone,
    scope: str,
) -> None:
    """Write channels into what reads the maps, and put necks before it that it needs."""
    native = network.out_strides
    new = [
        Level(channels, old[i].stride, old[i].depth_stride)
        for channels, i in zip(network.out_channels, read)
    ]
    neck = _reading_neck(editor, owner)
    if neck is not None:
        _write_neck(editor, owner, neck, old, new, scope)
    else:
        placed = {i: (position, new[position]) for position, i in enumerate(read)}
        if _keeps_channels(editor, owner):
            _map_channels(editor, owner, new, [old[i] for i in read])
        else:
            _write_heads(editor, owner, old, placed)
    strides = tuple(lv.stride for lv in new)
    resize = {"type": "mmeffvit.ResizeToStrides", "in_strides": native, "out_strides": strides}
    if readers.views_maps(editor.get(owner)):
        resize["contiguous"] = True
        _prepend_neck(editor, owner, resize, "a head cannot view maps that are channels last")
    elif strides != native:
        _prepend_neck(editor, owner, resize, "the strides that dilated stages had")


def _write_neck(
    editor: Editor, owner: Path, neck: Path, old: Sequence[Level], new: Sequence[Level], scope: str
) -> None:
    before = plain(editor.get(neck))
    readers.write_neck(editor, neck, old, new, scope)
    if neck[-1] == 0:  # of several: the heads read what the last one makes
        return
    made = measure_neck(before, old, scope)
    makes = measure_neck(plain(editor.get(neck)), new, scope)
    if made is None or makes is None:
        return  # not to be found out here; its out_channels stay
    if [lv.stride for lv in made] != [lv.stride for lv in makes]:
        raise SwapError(
            f"{before['type']!r} makes maps of strides {[lv.stride for lv in made]} of the old "
            f"backbone, but {[lv.stride for lv in makes]} of the new one."
        )
    if made != makes:  # it hands on maps of the backbone
        _write_heads(editor, owner, made, dict(enumerate(enumerate(makes))))


def _write_heads(
    editor: Editor, owner: Path, old: Sequence[Level], new: Mapping[int, tuple[int, Level]]
) -> None:
    for path in list(readers.iter_heads(editor, owner)):
        readers.write_head(editor, path, old, new)
    if isinstance(editor.get((*owner, "roi_head")), Mapping):
        for index, (_, level) in new.items():
            readers.write_roi_head(editor, (*owner, "roi_head"), old[index], level)


def _keeps_channels(editor: Editor, owner: Path) -> bool:
    """Whether a part of the heads has channels that cannot be written.

    A stage of a ResNet inside an RoI head (C4 models) takes what the stage before it gives.
    """
    return isinstance(editor.get((*owner, "roi_head", "shared_head")), Mapping)


def _map_channels(editor: Editor, owner: Path, new: Sequence[Level], old: Sequence[Level]) -> None:
    mapper = {
        "type": "ChannelMapper",
        "in_channels": [new[-1].channels],
        "kernel_size": 1,
        "out_channels": old[-1].channels,
        "act_cfg": None,
        "num_outs": 1,
    }
    _prepend_neck(editor, owner, mapper, "the stage of a ResNet in the RoI head takes as many")
    shared = (*owner, "roi_head", "shared_head")
    for key in ("init_cfg", "pretrained"):
        editor.remove((*shared, key), "weights of the old backbone")


def _prepend_neck(editor: Editor, owner: Path, neck: dict[str, Any], why: str) -> None:
    present = plain(editor.get((*owner, "neck")))
    if present is None:
        editor.set((*owner, "neck"), neck, why)
    else:
        rest = list(present) if isinstance(present, (list, tuple)) else [present]
        editor.set((*owner, "neck"), [neck, *rest], why)
