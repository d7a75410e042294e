"""Plain vision transformers: no golden files, a small size for tests."""

from __future__ import annotations

from typing import Any

from mmeffvit.models.network import Network
from mmeffvit.testing.families.base import GoldenFamily


class ViTGolden(GoldenFamily):
    family = "vit"
    system = "DeiT"

    def small_arch(self, cls: type[Network], variant: str) -> dict[str, Any]:
        arch = cls.arch_zoo[variant]
        return {**arch, "embed_dims": arch["embed_dims"] // 4, "depth": 3, "image_size": 64}
