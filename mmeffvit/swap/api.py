"""One call plans the swap of a backbone in a config of mmdet or mmseg; one carries it out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmeffvit import compat
from mmeffvit.checkpoint.by_name import as_checkpoint
from mmeffvit.configs import Place, in_text, plain, type_name, with_names
from mmeffvit.engine.launch import load_config
from mmeffvit.swap import leftovers, upstream
from mmeffvit.swap import recipe as recipes
from mmeffvit.swap.candidates import replace
from mmeffvit.swap.changes import Draft, Edit
from mmeffvit.swap.connect import Substitute, connect, find_readers, prepend_neck, refuse
from mmeffvit.swap.errors import SwapError
from mmeffvit.swap.locate import find_owner
from mmeffvit.swap.measure import Level, measure_backbone
from mmeffvit.swap.methods import method_of, usual_backbone

RECIPES = ("keep", "adamw")
#: of last maps of pyramids
_STRIDES = (16, 32)


@dataclass(frozen=True)
class SwapPlan:
    """What a swap reads and what it changes. Made by `plan_swap`, which changes nothing.

    Attributes:
        backbone: The new one.
        source: File of the config; None if it is of none.
        place: Of the old backbone.
        levels: All maps of the old backbone.
        maps: Those that are read, and what takes their places.
        edits: All changes of the config, in order.
        notes: What was left as it is although one might expect a change, and why.
    """

    backbone: str
    source: str | None
    place: Place
    levels: tuple[Level, ...]
    maps: tuple[Substitute, ...]
    edits: tuple[Edit, ...]
    notes: tuple[str, ...] = ()

    def apply(self, cfg: Config) -> Config:
        """Carry the plan out on a copy of the config that it was made for.

        Returns:
            What `swap_backbone` returns.

        Raises:
            SwapError: It is another config.
        """
        tree = _tree(cfg)
        for edit in self.edits:
            edit.apply(tree)
        tree["backbone_swap"] = {
            "backbone": self.backbone,
            "source": Path(self.source).name if self.source else None,
            "changes": [edit.as_dict() for edit in self.edits],
            **({"notes": list(self.notes)} if self.notes else {}),
        }
        # names of other libraries' networks hold slashes, and may be paths
        backbone = self.backbone.strip("/").replace("/", "-")
        name = f"{Path(self.source).stem if self.source else 'config'}_{backbone}.py"
        # without the text of the file it was read from, under a name of its own
        return Config(tree, cfg_text=f"# {name}: made by mmeffvit.swap_backbone", filename=name)


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
            enough. Also a class of a toolbox, such as ``'mmdet.SwinTransformer'`` or
            ``'mmpretrain.VisionTransformer'``, or a network of another library, such as
            ``'timm/convnextv2_tiny'``; see `LibraryBackbone`.
        recipe: ``'keep'`` leaves the optimizer; ``'adamw'`` sets AdamW, as vision transformers are
            fine-tuned with.
        checkpoint: Weights of the backbone: one of `mmeffvit.list_weights`, fetched when training
            begins, or a file under our keys (see tools/convert_checkpoint.py). Those of RGB images
            are adapted where the config's images have another number of channels.
        where: Which backbone, if the config has several, such as ``'reid.backbone'``.
        **options: Arguments of the backbone: ``drop_path_rate``, ``with_cp``, ``frozen_stages``,
            ``out_norm``, ``arch`` ...

    Returns:
        A config that stands alone. ``cfg.backbone_swap`` says what was done: ``backbone``,
        ``source`` and ``changes``, each with ``path``, ``old``, ``new`` and ``why``, and ``notes``
        on what was left as it is, if there are any.

    Raises:
        SwapError: The config cannot take the backbone; the message says why.
    """
    cfg = read_config(cfg)
    plan = plan_swap(cfg, backbone, recipe=recipe, checkpoint=checkpoint, where=where, **options)
    return plan.apply(cfg)


def _weights(checkpoint: str | os.PathLike) -> str:
    """A file, or ``mmeffvit://NAME`` for the name of published weights."""
    try:
        return as_checkpoint(checkpoint)
    except ValueError as error:
        raise SwapError(f"{error}.") from error


def plan_swap(
    cfg: Config | str | os.PathLike,
    backbone: str,
    *,
    recipe: str = "keep",
    checkpoint: str | os.PathLike | None = None,
    where: str | None = None,
    **options: Any,
) -> SwapPlan:
    """Find out what `swap_backbone` would do; the arguments and the errors are its own.

    >>> plan = plan_swap('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 'rmt-tiny')
    >>> [(m.old.stride, m.old.channels, m.new.channels) for m in plan.maps]
    [(8, 512, 128), (16, 1024, 256), (32, 2048, 512)]
    """
    if recipe not in RECIPES:
        raise SwapError(f"recipe={recipe!r} is not known; there are {', '.join(RECIPES)}.")
    cfg = read_config(cfg)
    tree = _tree(cfg)
    draft = Draft(tree, find_owner(tree, where))
    place = draft.own("backbone")
    old = plain(draft.get(place))
    refuse(old)
    _drop_branches(draft)
    method = method_of(draft)
    old = usual_backbone(method, _unpooled(draft, old))
    levels, parameters = measure_backbone(old, draft.scope)
    levels = method.places(_pooled(draft, levels))
    readers = find_readers(draft, levels)
    read = sorted({index for reader in readers for index in reader.reads})
    if not read and (method.reads_all or _is_headless(draft)):
        read = list(range(len(levels)))
    if not read:
        raise SwapError(
            f"Nothing beside the backbone of {draft.get(draft.own('type'))!r} names the channels "
            "of its maps, so it is not known which ones are read."
        )
    weights = None if checkpoint is None else _weights(checkpoint)
    new = replace(backbone, options, old, levels, read, draft.scope, weights)
    in_channels = new.config.get("in_channels", 3)
    new = method.fit(draft, new)
    draft.set(place, new.config, new.why)
    draft.notes += new.notes
    connect(draft, levels, readers, new.maps)
    if new.neck is not None:
        prepend_neck(draft, new.neck, "a pyramid of maps of one stride")
    leftovers.remove_weights(draft)
    leftovers.set_normalisation(draft, in_channels, new.statistics)
    leftovers.embed_teacher(draft)
    leftovers.clean_optimizer(draft, parameters, new.network, new.keeps_layer_decay)
    leftovers.remove_imports(draft, old)
    if recipe == "adamw":
        recipes.set_adamw(draft)
    leftovers.remove_copies(draft)
    edits, notes = tuple(draft.edits), tuple(draft.notes)
    return SwapPlan(backbone, cfg.filename, place, levels, new.maps, edits, notes)


def read_config(cfg: Config | str | os.PathLike) -> Config:
    compat.setup()
    return cfg if isinstance(cfg, Config) else load_config(os.fspath(cfg))


def _tree(cfg: Config) -> dict[str, Any]:
    """The entries of a config, without the report of an earlier swap."""
    tree = plain(with_names(in_text(cfg)))
    tree.pop("backbone_swap", None)
    return tree


def _unpooled(draft: Draft, old: dict[str, Any]) -> dict[str, Any]:
    """The old backbone without the pooling of its own, which a neck does from now on."""
    pools = type_name(old) in upstream.POOLING and old.get(upstream.POOLS, True)
    if not pools or draft.get(draft.own("neck")) is not None:
        return old
    neck = {"type": "mmpretrain.GlobalAveragePooling"}
    draft.set(draft.own("neck"), neck, "the old backbone pooled its last map itself")
    return {**old, upstream.POOLS: False}


def _pooled(draft: Draft, levels: tuple[Level, ...]) -> tuple[Level, ...]:
    """The only map of a classifier as one of a pyramid: what is pooled may have any stride."""
    neck, last = type_name(draft.get(draft.own("neck"))), levels[-1]
    if neck != "GlobalAveragePooling" or len(levels) > 1 or last.stride in _STRIDES:
        return levels
    draft.notes.append(
        f"The old backbone's only map has stride {last.stride}, the new one's {_STRIDES[-1]}: "
        "small images, such as CIFAR's, leave few cells of it; enlarge them in the pipelines."
    )
    return (Level(last.channels, _STRIDES[-1]),)


def _is_headless(draft: Draft) -> bool:
    """Whether a backbone alone is what is wanted, such as a classifier without its head."""
    heads = {key for key in draft.get(draft.owner) if key.endswith("head")}
    return not any(draft.get(draft.own(key)) for key in {"neck", *heads})


def _drop_branches(draft: Draft) -> None:
    why = "the branches were blocks of the old backbone"
    for place in (draft.owner, draft.own("roi_head")):
        name = upstream.WITHOUT_BRANCHES.get(type_name(draft.get(place)))
        if name is not None:
            draft.set((*place, "type"), name, why)
            for key in upstream.BRANCH_KEYS:
                draft.remove((*place, key), why)
