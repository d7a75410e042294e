"""DiNAT_s: dilated neighbourhood attention in the frame of Swin (arXiv 2209.15001)."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers import LayerNorm2d
from mmeffvit.models.backbones.dinat import (
    STAGE_3_AT_640,
    DiNAT,
    neighbourhood_arch,
    neighbourhood_rules,
)
from mmeffvit.models.official import KeyRule
from mmeffvit.registry import MODELS

_norm = partial(LayerNorm2d, eps=1e-5)


class PhaseMerge(nn.Module):
    """The four phases of 2x2 pixels beside each other, norm, projection: half as many pixels.

    A map of odd sides is filled up with zeros at the bottom and on the right.

    Args:
        in_dim: Channels C of the (B, C, H, W) map.
        dim: Channels C' of the (B, C', ceil(H/2), ceil(W/2)) map.
    """

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.norm = _norm(4 * in_dim)
        self.reduction = nn.Conv2d(4 * in_dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
        # (row, column) of the phases: (0, 0), (1, 0), (0, 1), (1, 1)
        phases = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(phases, dim=1)))


@MODELS.register_module()
class DiNAT_s(DiNAT):
    """DiNAT_s, tiny to large (arXiv 2209.15001): dilated neighbourhoods in the frame of Swin.

    Arguments are those of `DiNAT`; there are no published dilations for classifying 384 pixels.
    """

    family: ClassVar[str] = "dinat-s"
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": neighbourhood_arch(96, (2, 2, 6, 2), 4),
        "small": neighbourhood_arch(96, (2, 2, 18, 2), 4),
        "base": neighbourhood_arch(128, (2, 2, 18, 2), 4),
        "large": neighbourhood_arch(192, (2, 2, 18, 2), 4),
    }
    drop_path_rates: ClassVar[dict[str, float]] = {
        "tiny": 0.2,
        "small": 0.3,
        "base": 0.5,
        "large": 0.35,
    }
    task_dilations: ClassVar[dict[str, tuple[tuple[int, ...], ...]]] = {
        "classification": ((1, 8), (1, 4), (1, 2), (1,)),
        "detection": ((1, 28), (1, 14), (1, 3, 1, 5, 1, 7), (1, 3)),
        "segmentation": ((1, 16), (1, 8), (1, 2, 1, 3, 1, 4), (1, 2)),
        "segmentation-640": ((1, 20), (1, 10), STAGE_3_AT_640, (1, 2)),
    }
    official_rules: ClassVar[tuple[KeyRule, ...]] = neighbourhood_rules("layers")
    size_divisor: ClassVar[int] = 4

    def make_stem(self, in_channels: int, dim: int) -> nn.Module:
        proj = nn.Conv2d(in_channels, dim, 4, stride=4)
        return nn.Sequential(OrderedDict(proj=proj, norm=_norm(dim)))

    def make_merge(self, in_dim: int, dim: int) -> nn.Module:
        return PhaseMerge(in_dim, dim)
