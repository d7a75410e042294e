"""ViTAR: its authors published neither code nor weights, so no golden files; a size for tests."""

from __future__ import annotations

from typing import Any

from mmeffvit.models.network import Network
from mmeffvit.testing.families.base import GoldenFamily


class ViTARGolden(GoldenFamily):
    family = "vitar"
    system = "ViTAR"
    # positions are drawn anew in each training pass: about this much of the embedding
    autocast_tolerance = 0.06

    def small_arch(self, cls: type[Network], variant: str) -> dict[str, Any]:
        arch = {**cls.arch_zoo[variant], "depth": 3, "image_size": 64, "window_sizes": (3, 3, None)}
        return {**arch, "embed_dims": 48, "num_heads": 3}
