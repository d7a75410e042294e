"""The neck of SECOND: all maps at one size, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.registry import MODELS


@MODELS.register_module()
class SECONDFPN(BaseModule):
    """Maps of all stages brought to one size by transposed convolutions, and concatenated.

    Args:
        in_channels: Channels of every map.
        out_channels: Channels of every map after its convolution.
        upsample_strides: Enlargement of every map.
        init_cfg: Of mmengine.

    Raises:
        ValueError: The lists have different lengths.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (64, 128),
        out_channels: Sequence[int] = (128, 128),
        upsample_strides: Sequence[int] = (1, 2),
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        if not len(in_channels) == len(out_channels) == len(upsample_strides) > 0:
            raise ValueError(
                "SECONDFPN needs one entry per map in each list, got "
                f"in_channels={tuple(in_channels)}, out_channels={tuple(out_channels)} and "
                f"upsample_strides={tuple(upsample_strides)}"
            )
        self.out_channels = sum(out_channels)
        self.deblocks = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(width_in, width, stride, stride=stride, bias=False),
                nn.BatchNorm2d(width, eps=1e-3, momentum=0.01),
                nn.ReLU(inplace=True),
            )
            for width_in, width, stride in zip(in_channels, out_channels, upsample_strides)
        )

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor]:
        """Maps of all stages to one (B, C, H, W), in a tuple.

        Raises:
            ValueError: The maps have different numbers or sizes.
        """
        if len(feats) != len(self.deblocks):
            raise ValueError(f"SECONDFPN takes {len(self.deblocks)} maps, got {len(feats)}")
        outs = [deblock(feat) for deblock, feat in zip(self.deblocks, feats)]
        sizes = [tuple(out.shape[2:]) for out in outs]
        if len(set(sizes)) > 1:
            raise ValueError(
                f"maps have the sizes {', '.join(map(str, sizes))} (H, W) after SECONDFPN and "
                "cannot be joined; sides of the grid must be multiples of all strides"
            )
        return (torch.cat(outs, dim=1),)
