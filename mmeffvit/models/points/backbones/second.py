"""SECOND: convolutions on a bird's-eye-view map, with residuals (Sensors 2018, 18(10), 3337)."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.registry import MODELS


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
                norm = nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)
                block.append(nn.Sequential(conv, norm, nn.ReLU(inplace=True)))
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
