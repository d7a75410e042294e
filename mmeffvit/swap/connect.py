"""Connect the new maps to what reads them: channels of necks and heads, and necks in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmeffvit.configs import plain, type_name
from mmeffvit.swap import readers, upstream
from mmeffvit.swap.changes import Draft
from mmeffvit.swap.errors import SwapError
from mmeffvit.swap.measure import Level, measure_neck
from mmeffvit.swap.readers import Head, Neck, NewLevels


@dataclass(frozen=True)
class Substitute:
    """A map that is read, and the one of ours that takes its place.

    Attributes:
        index: Of the old one, among the maps of the old backbone.
        old: The old one.
        out_index: Of the new one, among all maps that our network could return.
        new: The new one. Where its stride is not that of `old`, it is resized.
        again: Whether it takes a place before, too, as the network has none that is so coarse.
    """

    index: int
    old: Level
    out_index: int
    new: Level
    again: bool = False


def refuse(cfg: Mapping[str, Any]) -> None:
    """Raise a SwapError if it is known that a backbone or neck cannot be swapped."""
    reason = upstream.REFUSED.get(type_name(cfg))
    if reason is not None:
        raise SwapError(f"{type_name(cfg)} cannot be swapped: {reason}.")


def find_readers(draft: Draft, levels: Sequence[Level]) -> Sequence[Neck | Head]:
    """The neck that reads the maps, if there is one, else the heads that do.

    A neck that names no channels takes maps as they come, such as a global average.
    """
    model = plain(draft.get(draft.owner))
    place, neck = draft.own("neck"), model.get("neck")
    if isinstance(neck, (list, tuple)) and neck:
        place, neck = (*place, 0), neck[0]
    if isinstance(neck, Mapping):
        refuse(neck)
    if readers.names_channels(neck):
        return [readers.read_neck(place, neck, levels, draft.scope)]
    return readers.read_heads(draft.owner, model, levels)


def connect(
    draft: Draft,
    levels: Sequence[Level],
    found: Sequence[Neck | Head],
    maps: Sequence[Substitute],
) -> None:
    """Write channels into what reads the maps, and put necks before it that it needs.

    Args:
        draft: Of the config.
        levels: All maps of the old backbone.
        found: Of `find_readers`.
        maps: Those that are read.
    """
    # what arrives at the readers: our channels, at the old strides
    new = {m.index: Level(m.new.channels, m.old.stride) for m in maps}
    if not found:
        pass  # a network without neck and heads, whose maps are all that is wanted
    elif isinstance(found[0], Neck):
        _rewrite_neck(draft, levels, found[0], new)
    elif isinstance(draft.get(draft.own("roi_head", "shared_head")), Mapping):
        _keep_channels(draft, maps[-1])
    else:
        _rewrite_heads(draft, levels, found, new)
    strides = tuple(m.new.stride for m in maps)
    wanted = tuple(m.old.stride for m in maps)
    come_in = tuple(m.new.stride for m in maps if not m.again)
    resize = {"type": "mmeffvit.ResizeToStrides", "in_strides": come_in, "out_strides": wanted}
    if readers.views_maps(draft.get(draft.owner)):
        resize["contiguous"] = True
        prepend_neck(draft, resize, "a head cannot view maps that are channels last")
    elif strides != wanted:
        coarser = "a map that is coarser than those of the new backbone"
        why = coarser if any(m.again for m in maps) else "the strides that dilated stages had"
        prepend_neck(draft, resize, why)


def _rewrite_neck(draft: Draft, levels: Sequence[Level], neck: Neck, new: NewLevels) -> None:
    """Of a neck, and of what reads it as long as it hands on maps of the backbone."""
    for change in neck.changes(new):
        draft.set(*change)
    made = measure_neck(neck.cfg, levels, draft.scope)
    makes = measure_neck(draft.get(neck.place), list(new.values()), draft.scope)
    if made is None or makes is None:
        return  # not to be found out here; its out_channels stay
    if [lv.stride for lv in made] != [lv.stride for lv in makes]:
        raise SwapError(
            f"{neck.cfg['type']!r} makes maps of strides {[lv.stride for lv in made]} of the old "
            f"backbone, but {[lv.stride for lv in makes]} of the new one."
        )
    if made == makes:
        return
    behind = _necks_behind(draft, neck)
    if behind and readers.names_channels(behind[0]):
        place = (*neck.place[:-1], neck.place[-1] + 1)
        following = readers.read_neck(place, behind[0], made, draft.scope)
        _rewrite_neck(draft, made, following, {i: makes[i] for i in following.reads})
    elif not behind:
        heads = readers.read_heads(draft.owner, plain(draft.get(draft.owner)), made)
        _rewrite_heads(draft, made, heads, dict(enumerate(makes)))


def _necks_behind(draft: Draft, neck: Neck) -> list[Mapping[str, Any]]:
    """Configs of the necks that come after one of several."""
    *several, number = neck.place
    if not isinstance(number, int):
        return []
    return plain(draft.get(tuple(several)))[number + 1 :]


def _rewrite_heads(
    draft: Draft, levels: Sequence[Level], heads: Sequence[Head], new: NewLevels
) -> None:
    for head in heads:
        for change in head.changes(new):
            draft.set(*change)
    place = draft.own("roi_head")
    for change in readers.roi_head_changes(place, plain(draft.get(place)), levels, new):
        draft.set(*change)


def _keep_channels(draft: Draft, last: Substitute) -> None:
    """Give the old number of channels to a part of the heads that cannot take another.

    A stage of a ResNet inside an RoI head (C4 models) takes what the stage before it gives.
    """
    mapper = {
        "type": "ChannelMapper",
        "in_channels": [last.new.channels],
        "kernel_size": 1,
        "out_channels": last.old.channels,
        "act_cfg": None,
        "num_outs": 1,
    }
    prepend_neck(draft, mapper, "the stage of a ResNet in the RoI head takes as many")
    for key in upstream.WEIGHTS:
        draft.remove(draft.own("roi_head", "shared_head", key), "weights of the old backbone")


def prepend_neck(draft: Draft, neck: dict[str, Any], why: str) -> None:
    """Put a neck before all that are there."""
    present = draft.get(draft.own("neck"))
    if present is not None:
        neck = [neck, *(present if isinstance(present, (list, tuple)) else [present])]
    draft.set(draft.own("neck"), neck, why)
