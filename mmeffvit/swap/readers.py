"""What reads the maps of a backbone: necks and heads, which maps they take, where channels stand.

A *reader* is a dict of a config that names channels of maps: ``in_channels``, with ``in_index``
where it chooses among them. Which maps it takes follows from these numbers and from the channels of
the maps that the backbone was measured to return. This is found out once, when a reader is made;
`changes` then says what it needs so that it reads other maps in their places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmeffvit.configs import Place, type_name, walk
from mmeffvit.swap import upstream
from mmeffvit.swap.errors import SwapError
from mmeffvit.swap.measure import Level, default_of, measure_neck

Change = tuple[Place, Any, str]
"""Place, new value, and why."""
NewLevels = Mapping[int, Level]
"""Index of an old map that is read -> what takes its place, in the order in which they come."""

_WHY = "channels of the new maps"


def names_channels(cfg: Any) -> bool:
    """Whether a neck or head says how many channels it takes."""
    value = cfg.get("in_channels") if isinstance(cfg, Mapping) else None
    numbers = value if isinstance(value, (list, tuple)) else [value]
    return bool(numbers) and all(isinstance(number, int) for number in numbers)


def _like(value: Any, numbers: list[int]) -> Any:
    """One number where one is named, else as many in a list or tuple, as it was."""
    return numbers[0] if isinstance(value, int) else type(value)(numbers)


def _match(channels: int | Sequence[int], levels: Sequence[Level], name: str) -> tuple[int, ...]:
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
    return tuple(found)


@dataclass(frozen=True)
class Neck:
    """A neck after a backbone, or after another neck.

    Attributes:
        place: Where it stands.
        cfg: Its config.
        named: Indices of the maps whose channels it names.
        start: First of these that it uses, as FPN's ``start_level``.
        end: Last + 1 of these that it uses.
        reads: Indices of the maps that it needs.
    """

    place: Place
    cfg: Mapping[str, Any]
    named: tuple[int, ...]
    start: int
    end: int
    reads: tuple[int, ...]

    def changes(self, new: NewLevels) -> Iterator[Change]:
        """What it needs to read new maps, those that it left out being gone."""
        channels = self.cfg["in_channels"]
        fresh = _like(channels, [new[i].channels for i in self.reads])
        yield (*self.place, "in_channels"), fresh, _WHY
        if (self.start, self.end) == (0, len(self.named)):
            return
        if self.reads == self.named:
            why = "a map that the neck needs for its size alone gives its norm no gradient"
            yield ("find_unused_parameters",), True, why
            return
        why = "maps that the neck does not use are not returned any more"
        if self.start:
            yield (*self.place, "start_level"), 0, why
        if self.end < len(self.named):
            yield (*self.place, "end_level"), -1, why


def read_neck(place: Place, cfg: Mapping[str, Any], levels: Sequence[Level], scope: str) -> Neck:
    """Find out which maps a neck takes.

    Args:
        place: Where it stands.
        cfg: Its config, which names channels.
        levels: The maps that there are.
        scope: Default scope of the config.

    Raises:
        SwapError: No map has the channels that it names.
    """
    channels = cfg["in_channels"]
    named = _match(channels, levels, type_name(cfg))
    start, end = (0, 1) if isinstance(channels, int) else _used(cfg, len(named), scope)
    reads = named[start:end]
    if reads != named:
        # some necks look at a map that they do not use, for its size
        all_levels = {k: v for k, v in (("start_level", 0), ("end_level", -1)) if k in cfg}
        trimmed = {**cfg, "in_channels": channels[start:end], **all_levels}
        alone = measure_neck(trimmed, [levels[i] for i in reads], scope)
        whole = measure_neck(cfg, [levels[i] for i in named], scope)
        if alone != whole:
            reads = named
            if alone and whole and len(whole) - len(alone) == len(named) - (end - start):
                start, end = 0, len(named)  # it hands on the others as they are
    return Neck(place, cfg, named, start, end, reads)


def _used(neck: Mapping[str, Any], count: int, scope: str) -> tuple[int, int]:
    """First and last + 1 of the maps that a neck of FPN's arguments uses."""

    def argument(key: str, otherwise: int) -> int:
        value = neck[key] if key in neck else default_of(neck["type"], key, scope)
        return otherwise if value is None else value

    start, end = argument("start_level", 0), argument("end_level", -1)
    if end in (-1, count - 1, count):
        return start, count
    return start, end if type_name(neck) in upstream.EXCLUSIVE_END else end + 1


@dataclass(frozen=True)
class Head:
    """A head that reads maps of a backbone, or of its neck.

    Attributes:
        place: Where it stands.
        cfg: Its config.
        takes: Indices of the maps whose channels ``in_channels`` names.
        first: Index of the map whose channels ``c1_in_channels`` names, as DeepLabV3+ does; or
            None.
    """

    place: Place
    cfg: Mapping[str, Any]
    takes: tuple[int, ...]
    first: int | None

    @property
    def reads(self) -> tuple[int, ...]:
        """Indices of the maps that it needs."""
        return self.takes if self.first is None else (self.first, *self.takes)

    def changes(self, new: NewLevels) -> Iterator[Change]:
        """What it needs to read new maps: their channels, and their positions."""
        channels, index = self.cfg["in_channels"], self.cfg.get("in_index")
        if self.first is not None:
            yield (*self.place, "c1_in_channels"), new[self.first].channels, _WHY
        fresh = _like(channels, [new[i].channels for i in self.takes])
        if self.cfg.get("num_convs") == 0 and self.cfg.get("channels") == channels:
            why = "equals in_channels in a head without convolutions"
            yield (*self.place, "channels"), fresh, why
        yield (*self.place, "in_channels"), fresh, _WHY
        if index is not None:
            returned = list(new)
            after = _like(index, [returned.index(i) for i in self.takes])
            if index != -1 or after != len(returned) - 1:
                yield (*self.place, "in_index"), after, "position among the maps that are returned"


def read_heads(owner: Place, model: Mapping[str, Any], levels: Sequence[Level]) -> list[Head]:
    """All heads beside a backbone that name channels of its maps, or of its neck's.

    Args:
        owner: Place of `model`.
        model: The dict that owns the backbone.
        levels: The maps that there are.

    Raises:
        SwapError: A head names channels that no map has.
    """
    heads = []
    for key, value in model.items():
        if key in upstream.NOT_HEADS or key.startswith(upstream.NOT_HEADS_PREFIXES):
            continue
        for place, cfg in walk(value, skip=upstream.NOT_HEADS):
            inside = any(isinstance(part, str) for part in place)  # of another head
            if names_channels(cfg) and (not inside or "in_index" in cfg):
                heads.append(_read_head((*owner, key, *place), cfg, levels))
    return heads


def _read_head(place: Place, cfg: Mapping[str, Any], levels: Sequence[Level]) -> Head:
    channels, index = cfg["in_channels"], cfg.get("in_index")
    name = type_name(cfg)
    if index is None and isinstance(channels, int) and len({lv.channels for lv in levels}) == 1:
        takes = tuple(range(len(levels)))  # dense heads take all maps, one after the other
    elif index is None:
        takes = _match(channels, levels, name)
    else:
        takes = tuple(i % len(levels) for i in ([index] if isinstance(index, int) else index))
        wanted = [channels] if isinstance(channels, int) else list(channels)
        if [levels[i].channels for i in takes] != wanted:
            raise SwapError(
                f"{name} reads maps {index} as {channels} channels, but the maps have "
                f"{[lv.channels for lv in levels]}: the config does not fit together."
            )
    if name in upstream.TAKES_THE_LAST and not cfg.get(upstream.TAKES_THE_LAST[name]):
        takes = takes[-1:]
    return Head(place, cfg, takes, 0 if cfg.get("c1_in_channels") else None)


def roi_head_changes(
    place: Place, roi_head: Any, old: Sequence[Level], new: NewLevels
) -> Iterator[Change]:
    """Channels in an RoI head that pools from the maps of a backbone themselves."""
    parts = roi_head.items() if isinstance(roi_head, Mapping) else ()
    for index, level in new.items():
        for key, part in parts:
            name = "out_channels" if key.endswith("_roi_extractor") else "in_channels"
            if isinstance(part, Mapping) and part.get(name) == old[index].channels:
                yield (*place, key, name), level.channels, _WHY


def views_maps(model: Mapping[str, Any]) -> bool:
    """Whether a head calls ``view`` on maps, which fails if they are channels last."""
    heads = [value for key, value in model.items() if key not in upstream.NOT_HEADS]
    heads = [head for value in heads for head in (value if isinstance(value, list) else [value])]
    return any(type_name(head) in upstream.VIEWS_MAPS for head in heads)
