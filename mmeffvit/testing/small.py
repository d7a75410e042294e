"""Networks in sizes for tests."""

from __future__ import annotations

from typing import Any

from mmeffvit.models import zoo
from mmeffvit.testing.families import FAMILIES, GoldenFamily


def small_arch(name: str) -> dict[str, Any]:
    """The structure of a named network with few blocks and a quarter of its channels.

    Args:
        name: One of `mmeffvit.list_backbones`.
    """
    family, variant = zoo.split_name(name)
    adapter = FAMILIES.get(family, GoldenFamily())
    return adapter.small_arch(zoo.backbone_classes()[family], variant)
