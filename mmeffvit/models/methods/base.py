"""What the methods share: a backbone of ours that lets its maps be changed, and gets more parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mmengine
from torch import nn

from mmeffvit.models.backbones.base import BaseBackbone
from mmeffvit.models.extend import extend
from mmeffvit.models.network import METHOD_PARTS


def build_backbone(
    backbone: Mapping[str, Any] | nn.Module, method: str, edits: tuple[str, ...]
) -> BaseBackbone:
    """The backbone of a config, if its maps can be changed where a method needs it.

    Args:
        backbone: Its config, or the network itself.
        method: What an error calls the method.
        edits: Values of `BaseBackbone.map_edits` that will do.

    Raises:
        ValueError: Its maps cannot be changed there.
    """
    # a config may be built in the scope of any toolbox
    build = mmengine.registry.MODELS.build
    network = backbone if isinstance(backbone, nn.Module) else build(dict(backbone))
    if getattr(network, "map_edits", None) not in edits:
        needed = "a pyramid" if edits == ("blocks",) else "a pyramid or a plain ViT"
        raise ValueError(
            f"{method} changes maps inside of its backbone, which {type(network).__name__} does "
            f"not let it do; take {needed} of this package, such as mmeffvit.RAVLT"
        )
    return network


def add_parts(network: BaseBackbone, part: type, prefix: str, **modules: Any) -> None:
    """Extend a network by the methods of a class, and by modules and parameters that are new.

    Args:
        network: It is changed.
        part: Class whose methods come before the network's own.
        prefix: Of the name of the new class.
        **modules: By their names, which are among `METHOD_PARTS`.
    """
    why = {name: METHOD_PARTS[name] for name in modules}
    extend(network, part, prefix, new_weights={**network.new_weights, **why})
    for name, module in modules.items():
        setattr(network, name, module)
