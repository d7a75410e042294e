"""BAR-Net: band attention modulation of the image, then RMT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from mmeffvit.models import RMT
from mmeffvit.registry import MODELS
from projects.barnet.barnet.bands import BandAttentionModulation


@MODELS.register_module()
class BARNet(BaseModule):
    """A backbone: the bands of the normalised image are weighted, and RMT gets what results.

    Args:
        arch: Variant of `mmeffvit.models.RMT`, or its dict.
        num_bands: See `BandAttentionModulation`.
        adaptive: See `BandAttentionModulation`.
        init_cfg: Of the RMT: ``dict(type='Pretrained', ...)`` takes converted weights of an RMT,
            with which the network is that RMT until it is trained.
        **kwargs: Those of `RMT`.

    Attributes:
        out_channels: As `RMT` has it.
        out_strides: As `RMT` has it.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "tiny",
        num_bands: int = 16,
        adaptive: bool = False,
        init_cfg: dict | list | None = None,
        **kwargs: Any,
    ):
        super().__init__()
        self.bam = BandAttentionModulation(num_bands, adaptive)
        self.trunk = RMT(arch, init_cfg=init_cfg, **kwargs)

    @property
    def out_channels(self) -> tuple[int, ...]:
        return self.trunk.out_channels

    @property
    def out_strides(self) -> tuple[int, ...]:
        return self.trunk.out_strides

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.trunk(self.bam(image))
