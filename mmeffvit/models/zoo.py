"""All backbones by name: ``family-variant``, such as ``secvit-tiny``."""

from __future__ import annotations

import difflib
import fnmatch
from typing import Any

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


def create_backbone(name: str, **kwargs: Any) -> BaseBackbone:
    """Build a backbone by its name.

    Args:
        name: One of :func:`list_backbones`.
        **kwargs: Arguments of the network, such as ``out_indices`` or ``drop_path_rate``.

    Raises:
        ValueError: No backbone has this name.
    """
    names = list_backbones()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names)}"
        raise ValueError(f"no backbone is called '{name}'; {hint}")
    family, _, arch = name.partition("-")
    return backbone_classes()[family](arch=arch, **kwargs)
