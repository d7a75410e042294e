"""All backbones by name: ``family-variant``, such as ``secvit-tiny``."""

from __future__ import annotations

import fnmatch
from typing import Any

from mmeffvit.errors import did_you_mean
from mmeffvit.models import backbones, points
from mmeffvit.models.backbones import BaseBackbone
from mmeffvit.models.network import Network


def backbone_classes() -> dict[str, type[BaseBackbone]]:
    """Family name -> class, for every family with named variants."""
    classes = (getattr(backbones, name) for name in backbones.__all__)
    return {cls.family: cls for cls in classes if cls.arch_zoo}


def point_backbone_classes() -> dict[str, type[Network]]:
    """The same for networks of point clouds, which `list_backbones` leaves out."""
    classes = (getattr(points, name) for name in points.__all__)
    return {cls.family: cls for cls in classes if getattr(cls, "arch_zoo", None)}


def network_classes() -> dict[str, type[Network]]:
    """Family name -> class, for images and for points."""
    return {**backbone_classes(), **point_backbone_classes()}


def list_backbones(pattern: str = "*") -> list[str]:
    """Names of all backbones that match a shell pattern, sorted.

    >>> list_backbones('secvit-*')
    ['secvit-base', 'secvit-large', 'secvit-small', 'secvit-tiny']
    """
    names = [
        f"{family}-{arch}" for family, cls in backbone_classes().items() for arch in cls.arch_zoo
    ]
    return sorted(fnmatch.filter(names, pattern))


def split_name(name: str) -> tuple[str, str]:
    """Family and variant of a name of :func:`list_backbones`; both may hold dashes.

    Raises:
        ValueError: No backbone has this name.
    """
    names = {
        f"{family}-{variant}": (family, variant)
        for family, cls in backbone_classes().items()
        for variant in cls.arch_zoo
    }
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
