"""What reads the maps of a backbone: necks and heads, which maps they take, where channels stand.

A *reader* is a dict of a config that names channels of maps: ``in_channels``, with ``in_index``
where it chooses among them. Which maps it takes follows from these numbers and from the channels of
the maps that the backbone was measured to return.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmeffvit.swap.changes import Editor, Path
from mmeffvit.swap.errors import SwapError
from mmeffvit.swap.levels import Level, default_of, measure_neck

_NOT_READERS = ("backbone", "neck", "data_preprocessor", "train_cfg", "test_cfg", "init_cfg")
_VIEWING = ("CenterNetHead", "DMHead")
_WHY = "channels of the new maps"


def type_name(cfg: Mapping[str, Any]) -> str:
    """Name of the class that a config names, without its scope."""
    kind = cfg.get("type")
    return kind.rpartition(".")[2] if isinstance(kind, str) else getattr(kind, "__name__", "")


def _is_channels(value: Any) -> bool:
    return isinstance(value, int) or (
        isinstance(value, (list, tuple)) and bool(value) and all(isinstance(v, int) for v in value)
    )


# -- necks -----------------------------------------------------------------------------------------


def names_channels(cfg: Mapping[str, Any]) -> bool:
    """Whether a neck or head says how many channels it takes."""
    return _is_channels(cfg.get("in_channels"))


def neck_reads(neck: Mapping[str, Any], levels: Sequence[Level], scope: str) -> list[int]:
    """Indices of the maps that a neck takes."""
    channels = neck["in_channels"]
    named = _match(channels, levels, type_name(neck))
    if isinstance(channels, int):
        return named
    start, end = _used_levels(neck, len(named), scope)
    if (start, end) == (0, len(named)):
        return named
    # some necks look at a map that they do not use, for its size
    trimmed = {**neck, "in_channels": channels[start:end], "start_level": 0, "end_level": -1}
    alone = measure_neck(trimmed, [levels[i] for i in named[start:end]], scope)
    whole = measure_neck(neck, [levels[i] for i in named], scope)
    return named[start:end] if alone == whole else named


def write_neck(
    editor: Editor, path: Path, old: Sequence[Level], new: Sequence[Level], scope: str
) -> None:
    """Give a neck the channels of the maps it takes, those that it left out being gone."""
    neck = editor.get(path)
    channels = neck["in_channels"]
    if isinstance(channels, int):
        editor.set((*path, "in_channels"), new[-1].channels, _WHY)
        return
    named = _match(channels, old, type_name(neck))
    start, end = _used_levels(neck, len(named), scope)
    editor.set((*path, "in_channels"), type(channels)(lv.channels for lv in new), _WHY)
    if (start, end) == (0, len(named)):
        return
    if len(new) == len(named):
        why = "a map that the neck needs for its size alone gives its norm no gradient"
        editor.set(("find_unused_parameters",), True, why)
        return
    why = "maps that the neck does not use are not returned any more"
    if start:
        editor.set((*path, "start_level"), 0, why)
    if end < len(named):
        editor.set((*path, "end_level"), -1, why)


def _used_levels(neck: Mapping[str, Any], count: int, scope: str) -> tuple[int, int]:
    """First and last + 1 of the maps that a neck of FPN's arguments uses."""

    def argument(key: str, otherwise: int) -> int:
        value = neck[key] if key in neck else default_of(neck["type"], key, scope)
        return otherwise if value is None else value

    start, end = argument("start_level", 0), argument("end_level", -1)
    if end in (-1, count - 1, count):
        return start, count
    # JPU's end is exclusive
    return start, end if type_name(neck) == "JPU" else end + 1


def _match(channels: int | Sequence[int], levels: Sequence[Level], name: str) -> list[int]:
    """The maps that have these channels, in order; the deepest ones if there is a choice."""
    wanted = [channels] if isinstance(channels, int) else list(channels)
    found: list[int] = []
    position = len(levels)
    for number in reversed(wanted):
        candidates = [i for i in range(position) if levels[i].channels == number]
        if not candidates:
            raise SwapError(
                f"{name} reads maps of {channels} channels, but the backbone of the config returns "
                f"maps of {[lv.channels for lv in levels]}: the config does not fit together."
            )
        position = candidates[-1]
        found.insert(0, position)
    return found


# -- heads -----------------------------------------------------------------------------------------


def iter_heads(editor: Editor, owner: Path) -> Iterator[Path]:
    """Paths of the heads beside a backbone that name channels of its maps (or of its neck's)."""
    for key, value in editor.get(owner).items():
        if key in _NOT_READERS or key.startswith(("teacher", "distill")):
            continue
        paths = [(*owner, key)]
        if isinstance(value, (list, tuple)):
            paths = [(*owner, key, i) for i in range(len(value))]
        for path in paths:
            yield from _readers_in(editor, path, top=True)


def _readers_in(editor: Editor, path: Path, top: bool) -> Iterator[Path]:
    head = editor.get(path)
    if not isinstance(head, Mapping):
        return
    if _is_channels(head.get("in_channels")) and (top or "in_index" in head):
        yield path
    for key, value in head.items():
        if key not in _NOT_READERS and isinstance(value, Mapping):
            yield from _readers_in(editor, (*path, key), top=False)


def head_reads(head: Mapping[str, Any], levels: Sequence[Level]) -> list[int]:
    """Indices of the maps that a head takes."""
    channels, index = head["in_channels"], head.get("in_index")
    if index is None and isinstance(channels, int) and _equal(levels):
        found = list(range(len(levels)))  # dense heads take all maps, one after the other
    elif index is None:
        found = _match(channels, levels, type_name(head))
    else:
        found = [i % len(levels) for i in ([index] if isinstance(index, int) else index)]
        wanted = [channels] if isinstance(channels, int) else list(channels)
        if [levels[i].channels for i in found] != wanted:
            raise SwapError(
                f"{type_name(head)} reads maps {index} as {channels} channels, but the maps have "
                f"{[lv.channels for lv in levels]}: the config does not fit together."
            )
    if type_name(head) == "EncHead" and not head.get("add_lateral"):
        found = found[-1:]  # it names three maps, and takes the last
    if head.get("c1_in_channels"):  # DeepLabV3+ takes the first map as well
        found = [0, *found]
    return found


def views_maps(owner: Mapping[str, Any]) -> bool:
    """Whether a head calls ``view`` on maps, which fails if they are channels last."""
    for key, value in owner.items():
        heads = value if isinstance(value, (list, tuple)) else [value]
        for head in heads if key not in _NOT_READERS else ():
            if isinstance(head, Mapping) and type_name(head) in _VIEWING:
                return True
    return False


def _equal(levels: Sequence[Level]) -> bool:
    return len({lv.channels for lv in levels}) == 1


def write_head(
    editor: Editor, path: Path, old: Sequence[Level], new: Mapping[int, tuple[int, Level]]
) -> None:
    """Give a head the channels and the positions of its maps.

    Args:
        editor: Of the config.
        path: Of the head.
        old: All maps that it could choose from.
        new: Index of an old map -> position and level of the new one.
    """
    head = editor.get(path)
    channels, index = head["in_channels"], head.get("in_index")
    found = head_reads(head, old)
    if head.get("c1_in_channels"):
        editor.set((*path, "c1_in_channels"), new[found.pop(0)][1].channels, _WHY)
    numbers = [new[i][1].channels for i in found]
    fresh = numbers[0] if isinstance(channels, int) else type(channels)(numbers)
    if head.get("num_convs") == 0 and head.get("channels") == channels:
        editor.set((*path, "channels"), fresh, "equals in_channels in a head without convolutions")
    editor.set((*path, "in_channels"), fresh, _WHY)
    if index is not None:
        positions = [new[i][0] for i in found]
        after = positions[0] if isinstance(index, int) else type(index)(positions)
        if index != -1 or after != len({pos for pos, _ in new.values()}) - 1:
            editor.set((*path, "in_index"), after, "position among the maps that are returned")


def write_roi_head(editor: Editor, path: Path, old: Level, new: Level) -> None:
    """Channels in an RoI head that pools from the map of a backbone itself."""
    roi_head = editor.get(path)
    for key, part in roi_head.items():
        if not isinstance(part, Mapping):
            continue
        name = "out_channels" if key.endswith("_roi_extractor") else "in_channels"
        if part.get(name) == old.channels:
            editor.set((*path, key, name), new.channels, _WHY)
