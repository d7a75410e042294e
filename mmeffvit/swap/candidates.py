"""New backbones by name: ours, classes of the toolboxes, networks of other libraries."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from mmeffvit.configs import type_name
from mmeffvit.models import zoo
from mmeffvit.models.backbones import BaseBackbone
from mmeffvit.models.libraries import Statistics
from mmeffvit.swap import upstream
from mmeffvit.swap.connect import refuse
from mmeffvit.swap.errors import SwapError
from mmeffvit.swap.library import is_plain, library_backbone
from mmeffvit.swap.measure import Level, build_measured
from mmeffvit.swap.replacement import (
    Replacement,
    by_doubling,
    from_one_stride,
    once,
    out_indices,
    out_levels,
    substitutes,
)

#: images as the weights of ResNets of style='caffe' expect them
_CAFFE = Statistics(
    mean=(103.53, 116.28, 123.675),
    std=(1.0, 1.0, 1.0),
    origin="weights of style='caffe' expect BGR images that are not scaled",
    rgb=False,
)
#: what a pyramid of a toolbox is asked for, to see which maps it has
_ALL_MAPS = (0, 1, 2, 3)


def replace(
    name: str,
    options: Mapping[str, Any],
    old: Mapping[str, Any],
    levels: Sequence[Level],
    read: Sequence[int],
    scope: str,
    checkpoint: str | os.PathLike | None = None,
) -> Replacement:
    """Find out what takes the place of a backbone.

    Args:
        name: As of `swap_backbone`.
        options: Arguments of the new one.
        old: Config of the old one.
        levels: All maps of the old one.
        read: Indices of those that are read.
        scope: Default scope of the config.
        checkpoint: Weights of the new one.

    Raises:
        SwapError: It cannot take the place.
    """
    if old.get("in_channels", 3) != 3:
        options = {"in_channels": old["in_channels"], **options}
    if "/" in name:
        new = library_backbone(name, options, old, levels, read, scope, checkpoint is None)
    elif "." in name and is_plain(name.replace(".", "/", 1), options):
        plain = name.replace(".", "/", 1)
        new = library_backbone(plain, options, old, levels, read, scope, load_published=False)
    elif "." in name:
        new = _toolbox_backbone(name, options, old, levels, read, scope)
    else:
        new = _new_backbone(name, options, old, levels, read, scope)
    if checkpoint is not None:
        new.config["init_cfg"] = {"type": "Pretrained", "checkpoint": os.fspath(checkpoint)}
        if new.config.get("in_channels", 3) != 3 and isinstance(new.network, BaseBackbone):
            new.config["init_cfg"]["adapt_channels"] = True
    return new


def _new_backbone(
    name: str,
    options: Mapping[str, Any],
    old: Mapping[str, Any],
    levels: Sequence[Level],
    read: Sequence[int],
    scope: str,
) -> Replacement:
    """One of ours."""
    cls, arguments = _choose(name, options)
    config = {"type": f"mmeffvit.{cls.__name__}"}
    asked = arguments.pop("out_indices", None)
    ours = _build(name, cls, arguments).stage_strides
    if len(set(ours)) == 1 or not by_doubling(ours):
        if asked is not None:
            arguments["out_indices"] = asked
        build = partial(_build, name, cls)
        network, maps, neck = from_one_stride(name, arguments, build, levels, read, scope)
        return Replacement({**config, **arguments}, network, maps, neck)
    found = out_indices(name, ours, old["type"], levels, read)
    if asked is not None and tuple(asked) != once(found):
        strides = ", ".join(str(levels[i].depth_stride) for i in read)
        raise SwapError(
            f"out_indices={tuple(asked)} cannot serve this config, whose neck and heads read maps "
            f"of stride {strides}, which is out_indices={once(found)}; leave it out."
        )
    arguments["out_indices"] = once(found)
    network = _build(name, cls, arguments)
    maps = substitutes(levels, read, found, out_levels(network))
    return Replacement({**config, **arguments}, network, maps)


def _toolbox_backbone(
    name: str,
    options: Mapping[str, Any],
    old: Mapping[str, Any],
    levels: Sequence[Level],
    read: Sequence[int],
    scope: str,
) -> Replacement:
    """A pyramid of a toolbox, which is measured."""
    config = {"type": name, **options}
    refuse(config)
    kind = type_name(config)
    if kind in upstream.POOLING:
        config.setdefault(upstream.POOLS, False)  # in place of each map, its mean
    key = upstream.INDICES.get(kind, "out_indices")
    if kind not in upstream.ALL_MAPS:
        config.setdefault(key, upstream.STAGES.get(kind, _ALL_MAPS))
    network, new = build_measured(config, scope)
    chosen = out_indices(name, [lv.depth_stride for lv in new], old["type"], levels, read)
    if kind not in upstream.ALL_MAPS:
        chosen = tuple(config[key][index] for index in chosen)
        config[key] = once(chosen)
        network, new = build_measured(config, scope)
    elif once(chosen) != tuple(range(len(new))):
        strides = ", ".join(str(new[index].depth_stride) for index in once(chosen))
        raise SwapError(
            f"{name} cannot be swapped in: it returns maps of all its {len(new)} stages, and this "
            f"config reads those of stride {strides} alone."
        )
    maps = substitutes(levels, read, chosen, new)
    return Replacement(config, network, maps, statistics=_statistics(config))


def _statistics(config: Mapping[str, Any]) -> Statistics:
    """Images as weights of a toolbox' class expect them."""
    if config.get("style") == "caffe":
        return _CAFFE
    return Statistics(origin="RGB images of ImageNet, as most weights of the toolboxes expect them")


def _choose(name: str, options: Mapping[str, Any]) -> tuple[type[BaseBackbone], dict[str, Any]]:
    """Class and arguments of a backbone, or of a family if there is an ``arch``."""
    classes = zoo.backbone_classes()
    if name in classes and "arch" in options:
        return classes[name], dict(options)
    try:
        family, variant = zoo.split_name(name)
    except ValueError as error:
        raise SwapError(str(error)) from None
    return classes[family], {"arch": variant, **options}


def _build(name: str, cls: type[BaseBackbone], arguments: Mapping[str, Any]) -> BaseBackbone:
    try:
        with torch.device("meta"):
            return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise SwapError(f"The options of {name} are not possible: {error}") from error
