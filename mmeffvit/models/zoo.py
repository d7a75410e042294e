"""All backbones by name: ``family-variant``, such as ``secvit-tiny``."""

from __future__ import annotations

import fnmatch
from typing import Any

from mmeffvit.errors import did_you_mean
from mmeffvit.models import backbones, points  # noqa: F401, registers the networks
from mmeffvit.models.backbones import BaseBackbone
from mmeffvit.models.network import Network
from mmeffvit.registry import MODELS


def network_classes(kind: type[Network] = Network) -> dict[str, type[Network]]:
    """Family name -> class, for every registered network with named variants.

    Args:
        kind: Networks of this kind only, such as `BaseBackbone` or `BasePointBackbone`.
    """
    return {
        cls.family: cls
        for cls in MODELS.module_dict.values()
        if isinstance(cls, type) and issubclass(cls, kind) and cls.arch_zoo
    }


def backbone_classes() -> dict[str, type[BaseBackbone]]:
    """The same for images: what `list_backbones` names."""
    return network_classes(BaseBackbone)


def point_backbone_classes() -> dict[str, type[Network]]:
    """The same for point clouds."""
    return {k: v for k, v in network_classes().items() if k not in backbone_classes()}


def _names() -> dict[str, tuple[str, str]]:
    """Name of every backbone -> family and variant."""
    return {
        f"{family}-{variant}": (family, variant)
        for family, cls in backbone_classes().items()
        for variant in cls.arch_zoo
    }


def list_backbones(pattern: str = "*") -> list[str]:
    """Names of all backbones that match a shell pattern, sorted.

    >>> list_backbones('secvit-*')
    ['secvit-base', 'secvit-large', 'secvit-small', 'secvit-tiny']
    """
    return sorted(fnmatch.filter(_names(), pattern))


def split_name(name: str) -> tuple[str, str]:
    """Family and variant of a name of :func:`list_backbones`; both may hold dashes.

    Raises:
        ValueError: No backbone has this name.
    """
    names = _names()
    if name not in names:
        hint = did_you_mean(name, names, most=3) or f"; there are {', '.join(sorted(names))}"
        raise ValueError(f"no backbone is called '{name}'{hint}")
    return names[name]


def create_backbone(name: str, **kwargs: Any) -> BaseBackbone:
    """Build a backbone by its name.

    Args:
        name: One of :func:`list_backbones`.
        **kwargs: Arguments of the network, such as ``out_indices`` or ``drop_path_rate``.

    Raises:
        ValueError: No backbone has this name.
    """
    family, variant = split_name(name)
    return backbone_classes()[family](arch=variant, **kwargs)
