"""The convolutions on a bird's-eye-view map: SECOND with residuals, and its feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.registry import MODELS


def _norm_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01), nn.ReLU(inplace=True)


@MODELS.register_module()
class SECOND(BaseModule):
    """Stages of 3x3 convolutions, the backbone of LiDAR detectors (Sensors 2018, 18(10), 3337).

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of every stage.
        layer_nums: Convolutions of every stage after its first one.
        layer_strides: Stride of the first convolution of every stage.
        residual: Add the input to the output of convolutions that keep the shape, after the ReLU.
        init_cfg: Of mmengine.

    Raises:
        ValueError: The lists have different lengths.
    """

    def __init__(
        self,
        in_channels: int = 128,
        out_channels: Sequence[int] = (64, 128),
        layer_nums: Sequence[int] = (3, 3),
        layer_strides: Sequence[int] = (1, 2),
        residual: bool = True,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        if not len(out_channels) == len(layer_nums) == len(layer_strides) > 0:
            raise ValueError(
                "SECOND needs one entry per stage in each list, got "
                f"out_channels={tuple(out_channels)}, layer_nums={tuple(layer_nums)} and "
                f"layer_strides={tuple(layer_strides)}"
            )
        self.out_channels = tuple(out_channels)
        self.residual = residual
        self.blocks = nn.ModuleList()
        for width, depth, stride in zip(out_channels, layer_nums, layer_strides):
            block = nn.ModuleList()
            for index in range(depth + 1):
                conv = nn.Conv2d(
                    width if index else in_channels,
                    width,
                    3,
                    stride=1 if index else stride,
                    padding=1,
                    bias=False,
                )
                block.append(nn.Sequential(conv, *_norm_relu(width)))
            self.blocks.append(block)
            in_channels = width

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) to the maps of all stages."""
        outs = []
        for block in self.blocks:
            for layer in block:
                out = layer(x)
                x = out + x if self.residual and out.shape == x.shape else out
            outs.append(x)
        return tuple(outs)


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
                *_norm_relu(width),
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
