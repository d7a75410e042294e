"""Low-rank adapters (LoRA, arXiv 2106.09685), by peft."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mmeffvit.layers import QKVProjection
from mmeffvit.models.libraries.base import require


def add_lora(
    network: nn.Module, names: Sequence[str], rank: int, alpha: float, dropout: float
) -> None:
    """Put low-rank adapters beside layers: ``W x`` becomes ``W x + alpha / rank * B A x``.

    B begins with zeros, so that the network is as before. All else is frozen.

    Args:
        network: Changed in place.
        names: Of linear layers and 1x1 convolutions.
        rank: Rows of A.
        alpha: Scale.
        dropout: Rate at which inputs of A are dropped in training.

    Raises:
        ImportError: peft is not installed.
    """
    require("peft", "backbones")
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        # a pattern is matched with whole names, a list with the ends of names
        target_modules="|".join(map(re.escape, names)),
    )
    config._register_custom_module({QKVProjection: _projection_class()})
    inject_adapter_in_model(config, network)


@functools.cache
def _projection_class() -> type[nn.Module]:
    """peft's layer for `QKVProjection`; a class of peft's is known when peft is imported."""
    from peft.tuners.lora.layer import Conv2d

    class LoraQKVProjection(Conv2d):
        """`QKVProjection` with an adapter: what it adds comes before the split into heads."""

        def update_layer(self, *args: Any, **kwargs: Any) -> None:
            # peft makes A and B of the class of the layer, and this one takes other arguments
            layer = self.get_base_layer()
            layer.__class__ = nn.Conv2d
            try:
                super().update_layer(*args, **kwargs)
            finally:
                layer.__class__ = QKVProjection

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            layer = self.get_base_layer()
            out = nn.Conv2d.forward(layer, x)
            for name in self.active_adapters:
                low = self.lora_A[name](self.lora_dropout[name](x))
                out = out + self.lora_B[name](low) * self.scaling[name]
            return layer.to_heads(out)

    return LoraQKVProjection
