"""Classifiers that published weights were trained with, without any toolbox.

`mmeffvit.classification.heads` joins them with mmpretrain's losses and predictions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn


class ConvClassifier(BaseModule):
    """1x1 convolution, batch norm, SiLU, global average, 1x1 convolution to class logits.

    The head of SecViT, RAVLT, SSViT and RMT. ``type='mmeffvit.ConvClsHead'`` is this head with a
    loss and predictions, for mmpretrain.

    Args:
        in_channels: Channels C of the last map of the backbone.
        num_classes: Number of classes.
        hidden_channels: Channels between the convolutions.
        init_cfg: Of mmengine.
        **kwargs: Of the next class, where a sub-class joins this one with a toolbox's head.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 1000,
        hidden_channels: int = 1024,
        init_cfg: dict | None = None,
        **kwargs,
    ):
        super().__init__(init_cfg=init_cfg, **kwargs)
        self.proj = nn.Conv2d(in_channels, hidden_channels, 1)
        self.norm = nn.BatchNorm2d(hidden_channels)
        self.fc = nn.Linear(hidden_channels, num_classes)
        for layer in (self.proj, self.fc):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def pre_logits(self, feats: Tensor | Sequence[Tensor]) -> Tensor:
        """What the last layer makes logits of.

        Args:
            feats: (B, C, H, W), or the tuple of a backbone, whose last map is taken.

        Returns:
            (B, hidden_channels).
        """
        return F.silu(self.norm(self.proj(last_map(feats)))).mean((2, 3))

    def forward(self, feats: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (B, num_classes); `feats` as in :meth:`pre_logits`."""
        return self.fc(self.pre_logits(feats))


class _NormedClassifier(BaseModule):
    """What classifiers of a norm, an average and a linear layer share, whatever their order.

    Args:
        norm: Of the channels.
        in_channels: Channels C of the last map of the backbone.
        num_classes: Number of classes.
        init_cfg: Of mmengine.
        **kwargs: Of the next class, where a sub-class joins this one with a toolbox's head.
    """

    def __init__(
        self,
        norm: nn.Module,
        in_channels: int,
        num_classes: int,
        init_cfg: dict | None = None,
        **kwargs,
    ):
        super().__init__(init_cfg=init_cfg, **kwargs)
        self.norm = norm
        self.fc = nn.Linear(in_channels, num_classes)
        nn.init.trunc_normal_(self.fc.weight, std=0.02)
        nn.init.zeros_(self.fc.bias)

    def pre_logits(self, feats: Tensor | Sequence[Tensor]) -> Tensor:
        """What the last layer makes logits of.

        Args:
            feats: (B, C, H, W), or the tuple of a backbone, whose last map is taken.

        Returns:
            (B, C).
        """
        raise NotImplementedError

    def forward(self, feats: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (B, num_classes); `feats` as in :meth:`pre_logits`."""
        return self.fc(self.pre_logits(feats))


class NormClassifier(_NormedClassifier):
    """Layer norm over channels, global average, linear layer to class logits.

    The head of CSWin, NAT, DiNAT and most other pyramids.

    Args:
        in_channels: Channels C of the last map of the backbone.
        num_classes: Number of classes.
        eps: Of the norm.
        init_cfg: Of mmengine.
        **kwargs: Of the next class, where a sub-class joins this one with a toolbox's head.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 1000,
        eps: float = 1e-5,
        init_cfg: dict | None = None,
        **kwargs,
    ):
        norm = nn.LayerNorm(in_channels, eps=eps)
        super().__init__(norm, in_channels, num_classes, init_cfg, **kwargs)

    def pre_logits(self, feats: Tensor | Sequence[Tensor]) -> Tensor:
        """(B, C), of a map (B, C, H, W) or of the last one of a tuple."""
        return self.norm(last_map(feats).permute(0, 2, 3, 1)).mean((1, 2))


class PooledNormClassifier(NormClassifier):
    """Global average, layer norm, linear layer: `NormClassifier` in the order of SReT."""

    def pre_logits(self, feats: Tensor | Sequence[Tensor]) -> Tensor:
        """(B, C), of a map (B, C, H, W) or of the last one of a tuple."""
        return self.norm(last_map(feats).mean((2, 3)))


class BatchNormClassifier(_NormedClassifier):
    """Batch norm, global average, linear layer to class logits: the head of UniFormer.

    Args:
        in_channels: Channels C of the last map of the backbone.
        num_classes: Number of classes.
        init_cfg: Of mmengine.
        **kwargs: Of the next class, where a sub-class joins this one with a toolbox's head.
    """

    def __init__(
        self, in_channels: int, num_classes: int = 1000, init_cfg: dict | None = None, **kwargs
    ):
        super().__init__(nn.BatchNorm2d(in_channels), in_channels, num_classes, init_cfg, **kwargs)

    def pre_logits(self, feats: Tensor | Sequence[Tensor]) -> Tensor:
        """(B, C), of a map (B, C, H, W) or of the last one of a tuple."""
        return self.norm(last_map(feats)).mean((2, 3))


class LinearClassifier(BaseModule):
    """Global average and a linear layer to class logits: of plain ViTs, whose norm stands before.

    Args:
        in_channels: Channels C of the last map of the backbone, which may be of one pixel.
        num_classes: Number of classes.
        init_cfg: Of mmengine.
    """

    def __init__(self, in_channels: int, num_classes: int = 1000, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.fc = nn.Linear(in_channels, num_classes)
        nn.init.trunc_normal_(self.fc.weight, std=0.02)
        nn.init.zeros_(self.fc.bias)

    def forward(self, feats: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (B, num_classes) of a (B, C, H, W) map, or of the last one of a tuple."""
        return self.fc(last_map(feats).mean((2, 3)))


class BranchClassifier(BaseModule):
    """A linear layer per map, averages first; the logits are their mean: the head of CrossViT.

    Args:
        in_channels: Channels of each map of the backbone, which may be of one pixel.
        num_classes: Number of classes.
        init_cfg: Of mmengine.
        **kwargs: Of the next class, where a sub-class joins this one with a toolbox's head.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int = 1000,
        init_cfg: dict | None = None,
        **kwargs,
    ):
        super().__init__(init_cfg=init_cfg, **kwargs)
        self.fcs = nn.ModuleList(nn.Linear(dim, num_classes) for dim in in_channels)
        for fc in self.fcs:
            nn.init.trunc_normal_(fc.weight, std=0.02)
            nn.init.zeros_(fc.bias)

    def pre_logits(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps (B, C_i, H_i, W_i) to what the layers make logits of, (B, C_i) each."""
        return tuple(x.mean((2, 3)) for x in feats)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits (B, num_classes); `feats` as in :meth:`pre_logits`."""
        pairs = zip(self.fcs, self.pre_logits(feats), strict=True)
        return torch.stack([fc(x) for fc, x in pairs]).mean(0)


def last_map(feats: Tensor | Sequence[Tensor]) -> Tensor:
    """A map, or the last one of a tuple of maps."""
    return feats if isinstance(feats, Tensor) else feats[-1]
