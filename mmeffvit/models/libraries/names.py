"""Names of networks of other libraries: ``timm/NAME``, ``hf/NAME``, ``mmpretrain/NAME`` ..."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import torch
from torch import nn

from mmeffvit.errors import did_you_mean
from mmeffvit.models.libraries.base import Facts, Library
from mmeffvit.models.meta import TablesOnCpu

#: first part of a name -> module and class of what knows the library
_LIBRARIES = {
    "mmpretrain": ("toolbox_networks", "MMPretrainNetwork"),
    "mmseg": ("toolbox_networks", "MMSegNetwork"),
    "timm": ("timm_networks", "TimmNetwork"),
    "torchvision": ("torchvision_networks", "TorchvisionNetwork"),
    "hf": ("hugging_face", "HuggingFaceNetwork"),
}
#: facts of networks that were built in this process
_FACTS: dict[str, Facts] = {}
_MOST_FACTS = 256


def split_library(name: str) -> tuple[str, str]:
    """Library and network of a name such as ``'timm/convnextv2_tiny'``.

    Raises:
        ValueError: There is no such library.
    """
    library, slash, network = name.partition("/")
    if library not in _LIBRARIES or not network:
        hint = did_you_mean(library, _LIBRARIES) if slash else ""
        raise ValueError(
            f"'{name}' names no network of another library: write "
            f"{', '.join(f'{key}/NAME' for key in _LIBRARIES)}{hint}"
        )
    return library, network


def make_library(name: str, in_channels: int, options: Mapping[str, Any]) -> Library:
    """What knows the network `name`; see `LibraryBackbone`."""
    library, network = split_library(name)
    module, cls = _LIBRARIES[library]
    kind = getattr(import_module(f"mmeffvit.models.libraries.{module}"), cls)
    return kind(network, in_channels, options)


def find_facts(library: Library) -> Facts:
    """As `Library.find_facts`, once for each network and options."""
    key = repr((type(library), library.name, library.in_channels, sorted(library.options.items())))
    if key not in _FACTS:
        if len(_FACTS) >= _MOST_FACTS:
            _FACTS.clear()
        _FACTS[key] = library.find_facts()
    return _FACTS[key]


def make_network(library: Library) -> nn.Module:
    """As `Library.make`, also within a meta device, where some constructors read numbers."""
    on_meta = torch.empty(0).device.type == "meta"
    with TablesOnCpu() if on_meta else nullcontext():
        return library.make()
