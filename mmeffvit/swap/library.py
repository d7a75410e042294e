"""A network of another library in the place of a backbone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from mmeffvit.models.libraries import LibraryBackbone, ViTCoMerAdapter
from mmeffvit.models.meta import TablesOnCpu
from mmeffvit.swap import upstream
from mmeffvit.swap.connect import Substitute
from mmeffvit.swap.errors import SwapError
from mmeffvit.swap.measure import Level
from mmeffvit.swap.replacement import (
    Replacement,
    from_one_stride,
    once,
    out_indices,
    out_levels,
    substitutes,
)

#: values of the option ``adapter``
_ADAPTERS = {"vit_comer": ViTCoMerAdapter}
#: options that say nothing of the network itself
_OF_THE_SWAP = (
    "adapter",
    "out_indices",
    "init_cfg",
    *inspect.signature(ViTCoMerAdapter).parameters,
)


def is_plain(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a class of a toolbox is a plain transformer with these options.

    Args:
        name: As of `LibraryBackbone`, such as ``'mmpretrain/VisionTransformer'``.
        options: As of `library_backbone`.

    Raises:
        SwapError: It is, but cannot be built.
    """
    inner = {key: value for key, value in options.items() if key not in _OF_THE_SWAP}
    try:
        return _build(name, inner).facts.is_plain
    except SwapError:
        if name.rpartition("/")[2] in upstream.PLAIN:
            raise
        return False  # measured as a pyramid next


def library_backbone(
    name: str,
    options: Mapping[str, Any],
    old: Mapping[str, Any],
    levels: Sequence[Level],
    read: Sequence[int],
    scope: str,
    load_published: bool,
) -> Replacement:
    """See :func:`mmeffvit.swap.replacement.replace`.

    Args:
        name: As of `LibraryBackbone`, such as ``'timm/...'``.
        options: Arguments of `LibraryBackbone`; with ``adapter='vit_comer'``, of
            `ViTCoMerAdapter`.
        old: Config of the old backbone.
        levels: All maps of the old one.
        read: Indices of those that are read.
        scope: Default scope of the config.
        load_published: Let it begin with the library's weights, unless an option says otherwise.
    """
    arguments = dict(options)
    if (adapter := arguments.pop("adapter", None)) is not None:
        return _adapted(name, adapter, arguments, old, levels, read, load_published)
    network = _build(name, arguments)
    _refuse_fixed_size(network, arguments)
    if network.facts.is_plain:
        _choose_stride(network, arguments)
        build = partial(_build, name)
        network, maps, neck = from_one_stride(name, arguments, build, levels, read, scope)
    else:
        network, maps = _pyramid(name, arguments, network, old, levels, read)
        neck = None
    notes = _notes(network, arguments, load_published)
    if network.facts.size is not None:
        height, width = network.facts.size
        notes.append(
            f"{name} pads images to {height} x {width} pixels inside and takes none that are "
            "larger: crops, also those of tests, must not be."
        )
    return Replacement(
        {"type": "mmeffvit.LibraryBackbone", "name": name, **arguments},
        network,
        maps,
        neck,
        network.statistics(),
        keeps_layer_decay=True,
        notes=tuple(notes),
    )


def _adapted(
    name: str,
    adapter: str,
    arguments: dict[str, Any],
    old: Mapping[str, Any],
    levels: Sequence[Level],
    read: Sequence[int],
    load_published: bool,
) -> Replacement:
    """A plain transformer with the branch that makes it a pyramid."""
    if adapter not in _ADAPTERS:
        raise SwapError(
            f"adapter={adapter!r} is not known; there is {', '.join(map(repr, _ADAPTERS))}, and "
            "without one plain transformers get the neck PlainToPyramid."
        )
    cls = _ADAPTERS[adapter]
    network, maps = _pyramid(name, arguments, _build(name, arguments, cls), old, levels, read, cls)
    notes = _notes(network.vit, arguments, load_published)
    return Replacement(
        {"type": f"mmeffvit.{cls.__name__}", "name": name, **arguments},
        network,
        maps,
        None,
        network.statistics(),
        keeps_layer_decay=True,
        notes=tuple(notes),
    )


def _notes(network: LibraryBackbone, arguments: dict[str, Any], load_published: bool) -> list[str]:
    """What users have to know; and ``pretrained`` is set where there are weights."""
    notes = []
    if load_published and network.library.has_weights():
        arguments.setdefault("pretrained", True)
    if arguments.get("pretrained"):
        notes.append(
            f"{network.name} begins with its published weights, which are downloaded when training "
            "starts if they are not in the library's cache; pretrained=False does without."
        )
    if network.out_stride is not None:
        notes.append(
            f"patches of {network.name} have {network.facts.strides[0]} pixels: images are resized "
            f"inside, so that a patch is {network.out_stride} pixels of the image (out_stride)."
        )
    return notes


def _build(
    name: str, arguments: Mapping[str, Any], cls: type[nn.Module] = LibraryBackbone
) -> LibraryBackbone | ViTCoMerAdapter:
    kept = {key: value for key, value in arguments.items() if key != "pretrained"}
    try:
        with torch.device("meta"), TablesOnCpu():
            return cls(name, **kept)
    except (ImportError, TypeError, ValueError) as error:
        raise SwapError(f"{name} cannot be the backbone: {error}") from error


def _refuse_fixed_size(network: LibraryBackbone, arguments: Mapping[str, Any]) -> None:
    if network.facts.size is None or "img_size" in arguments:
        return
    height, width = network.facts.size
    raise SwapError(
        f"{network.name} takes images of {height} x {width} pixels alone, and those of this config "
        "have other sizes. Where all images fit, also in tests, give img_size=(height, width) "
        "among the options, if the network has it; else take one that takes any size."
    )


def _choose_stride(network: LibraryBackbone, arguments: dict[str, Any]) -> None:
    """Of patches of 14 pixels: images are resized so that strides double and halve as in others."""
    patch = network.facts.strides[0]
    if patch & (patch - 1):
        arguments.setdefault("out_stride", 1 << patch.bit_length())


def _pyramid(
    name: str,
    arguments: dict[str, Any],
    network: LibraryBackbone,
    old: Mapping[str, Any],
    levels: Sequence[Level],
    read: Sequence[int],
    cls: type[nn.Module] = LibraryBackbone,
) -> tuple[LibraryBackbone, tuple[Substitute, ...]]:
    found = out_indices(name, network.stage_strides, old["type"], levels, read)
    asked = arguments.get("out_indices", once(found))
    if tuple(asked) != once(found):
        raise SwapError(
            f"out_indices={tuple(asked)} cannot serve this config, whose neck and heads read what "
            f"is out_indices={once(found)} of {name}; leave it out."
        )
    arguments["out_indices"] = once(found)
    network = _build(name, arguments, cls)
    return network, substitutes(levels, read, found, out_levels(network))
