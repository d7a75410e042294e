"""What takes the place of a backbone: its config, its maps, and what it needs beside itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mmeffvit.models.libraries import Statistics
from mmeffvit.swap.connect import Substitute
from mmeffvit.swap.errors import SwapError
from mmeffvit.swap.measure import Level

#: strides between which a pyramid has its maps, at least
_FINEST, _COARSEST = 4, 16
#: images as all published weights of ours expect them
OWN_STATISTICS = Statistics(origin="our weights were trained on RGB images scaled so")


@dataclass
class Replacement:
    """A new backbone.

    Attributes:
        config: Its config.
        network: It, on the meta device.
        maps: Which of its maps take which places.
        neck: What makes a pyramid of its maps, if they have one stride.
        statistics: Images as its weights expect them.
        keeps_layer_decay: Whether rates that fell from layer to layer of the old one do so here.
        notes: What users have to know.
    """

    config: dict[str, Any]
    network: nn.Module
    maps: tuple[Substitute, ...]
    neck: dict[str, Any] | None = None
    statistics: Statistics = OWN_STATISTICS
    keeps_layer_decay: bool = False
    notes: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """Why it returns the maps that it returns."""
        return f"maps of stride {', '.join(str(m.old.depth_stride) for m in self.maps)} are read"


def out_indices(
    name: str, ours: Sequence[int], old: Any, levels: Sequence[Level], read: Sequence[int]
) -> tuple[int, ...]:
    """Which maps of the network `name`, of strides `ours`, have the strides that are read.

    For strides beyond its coarsest map that one is named again.
    """
    strides = [lv.depth_stride for lv in levels]
    ascending = strides == sorted(set(strides))
    if not ascending or strides[0] < _FINEST or strides[-1] < _COARSEST:
        raise SwapError(
            f"{old!r} is not a pyramid: its maps have strides "
            f"{', '.join(str(lv.stride) for lv in levels)}, and a backbone of ours has one map "
            f"each of the strides {_listed(ours)}."
        )
    wanted = [strides[i] for i in read]
    if max(ours) in wanted and min(ours) < max(ours):
        wanted = [min(stride, max(ours)) for stride in wanted]
    if not set(wanted) <= set(ours):
        raise SwapError(
            f"{name} cannot take the place of {old!r}: maps of stride {_listed(wanted)} are read, "
            f"and it has maps of stride {_listed(ours)}. Maps of one stride become a pyramid by a "
            "neck, mmeffvit.PlainToPyramid, which a swap adds to networks of ours and of other "
            "libraries."
        )
    # of several maps of one stride, as plain transformers have them, the last
    return tuple(len(ours) - 1 - ours[::-1].index(stride) for stride in wanted)


def substitutes(
    levels: Sequence[Level], read: Sequence[int], indices: Sequence[int], new: Iterable[Level]
) -> tuple[Substitute, ...]:
    """What takes the place of each map that is read.

    Args:
        levels: All maps of the old backbone.
        read: Indices of those that are read.
        indices: What takes their places, among the maps of the new network; see `out_indices`.
        new: The maps of these indices, each once.
    """
    returned = dict(zip(once(indices), new, strict=True))
    return tuple(
        Substitute(index, levels[index], out_index, returned[out_index], out_index in indices[:i])
        for i, (index, out_index) in enumerate(zip(read, indices, strict=True))
    )


def from_one_stride(
    name: str,
    arguments: dict[str, Any],
    build: Callable[[Mapping[str, Any]], nn.Module],
    levels: Sequence[Level],
    read: Sequence[int],
    scope: str,
) -> tuple[Any, tuple[Substitute, ...], dict[str, Any] | None]:
    """A pyramid of the maps of a plain network, or of one with branches.

    All levels are made of the last map, as detectors have it, or of one map each, as segmentors do.
    Maps of branches, whose strides are no powers of two apart, are joined, and all levels are made
    of that.

    Args:
        name: Of the network.
        arguments: What it is built of; ``out_indices`` is set where it is not there.
        build: Makes it of its arguments.
        levels: All maps of the old backbone.
        read: Indices of those that are read.
        scope: Default scope of the config.

    Returns:
        The network, what takes which places, and the neck, if one is needed.
    """
    strides = build({k: v for k, v in arguments.items() if k != "out_indices"}).stage_strides
    depth, branches = len(strides), not by_doubling(strides)
    wanted = tuple(levels[index].stride for index in read)
    if branches:
        arguments.setdefault("out_indices", tuple(range(depth)))
    elif "out_indices" not in arguments:
        each = scope == "mmseg" and 1 < len(read) <= depth
        count = len(read) if each else 1
        arguments["out_indices"] = tuple(depth * (i + 1) // count - 1 for i in range(count))
    network = build(arguments)
    indices, channels, stride = network.out_indices, network.out_channels, network.out_strides[-1]
    if not by_doubling((stride, *wanted)):
        raise SwapError(
            f"out_indices={indices} of {name} end with a map of stride {stride}, of which no map "
            f"of stride {_listed(wanted)} can be made by doubling or halving; leave it out."
        )
    if not branches and len(indices) not in (1, len(read)):
        raise SwapError(
            f"out_indices={indices} of {name} cannot serve this config, which reads {len(read)} "
            "maps: name as many blocks, or one of which all are made; or leave it out."
        )
    each = len(indices) == len(read) and not branches
    neck = {
        "type": "mmeffvit.PlainToPyramid",
        "in_channels": channels[0] if len(indices) == 1 else list(channels),
        "in_stride": stride,
        "out_strides": wanted,
    }
    if branches:
        neck.update(in_channels=list(channels), concat=True)
    elif each and set(wanted) == {stride}:
        neck = None
    width = sum(channels) if branches else channels[0]
    maps = (
        Substitute(index, levels[index], out_index, Level(width, levels[index].stride))
        for index, out_index in zip(read, indices if each else indices[-1:] * len(read))
    )
    return network, tuple(maps), neck


def by_doubling(strides: Sequence[float]) -> bool:
    """Whether strides are powers of two apart, so that maps of one become those of another."""
    return all(math.log2(stride / strides[0]).is_integer() for stride in strides)


def once(indices: Sequence[int]) -> tuple[int, ...]:
    """Ascending indices, each of them once."""
    return tuple(sorted(set(indices)))


def out_levels(network: nn.Module) -> tuple[Level, ...]:
    """The maps that a backbone says it returns."""
    return tuple(map(Level, network.out_channels, network.out_strides))


def _listed(strides: Sequence[int]) -> str:
    *others, last = map(str, sorted(set(strides)))
    return f"{', '.join(others)} and {last}" if others else last
