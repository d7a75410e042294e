"""What DAFormer's head is made of: embeddings of levels, and layers that see all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.aspp_head import ASPPModule
from mmseg.models.decode_heads.sep_aspp_head import DepthwiseSeparableASPPModule
from torch import Tensor, nn

from mmeffvit.ops.group_attention import from_groups, to_groups
from mmeffvit.registry import MODELS


class LinearEmbedding(nn.Module):
    """A linear layer per pixel, no norm: (B, C, H, W) to (B, E, H, W)."""

    def __init__(self, in_channels: int, embed_dims: int):
        super().__init__()
        self.proj = nn.Linear(in_channels, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        # as a convolution, which needs no transposed copy
        return F.conv2d(x, self.proj.weight[..., None, None], self.proj.bias)


class ContextFusion(nn.Module):
    """Convolutions of several dilations side by side, and one that joins them.

    Args:
        in_channels: Of the joined levels.
        channels: Of each branch, and of the result.
        dilations: One branch each; 1 is a 1x1 convolution.
        separable: Depthwise 3x3 and 1x1 convolutions in place of 3x3 ones.
        norm_cfg: Of all.
        act_cfg: Of all.
        image_pool: Another branch, before all: the mean of the map, the same for every pixel.
        context: Config of another branch, before the dilated ones: a layer of `in_channels` and
            `out_channels`, which are filled in.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        dilations: Sequence[int],
        separable: bool,
        norm_cfg: dict,
        act_cfg: dict,
        image_pool: bool = False,
        context: dict[str, Any] | None = None,
    ):
        super().__init__()
        options = {"norm_cfg": norm_cfg, "act_cfg": act_cfg}
        widths = {"in_channels": in_channels, "channels": channels}
        self.image_pool = self.context_layer = None
        if image_pool:
            self.image_pool = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), ConvModule(in_channels, channels, 1, **options)
            )
        if context is not None:
            found = {"in_channels": in_channels, "out_channels": channels, **context}
            self.context_layer = MODELS.build(found)
        branches = DepthwiseSeparableASPPModule if separable else ASPPModule
        self.aspp_modules = branches(dilations=dilations, conv_cfg=None, **widths, **options)
        count = len(dilations) + bool(image_pool) + (context is not None)
        self.bottleneck = ConvModule(count * channels, channels, 3, padding=1, **options)

    def forward(self, x: Tensor) -> Tensor:
        branches = self.aspp_modules(x)
        if self.context_layer is not None:
            branches = [self.context_layer(x), *branches]
        if self.image_pool is not None:
            branches = [self.image_pool(x).expand(-1, -1, *x.shape[-2:]), *branches]
        return self.bottleneck(torch.cat(branches, 1))


class Relation(nn.Module):
    """Attention of one head in groups of pixels, without a residual.

    Args:
        in_channels: Of the map, of values and of the result.
        channels: Of queries and keys, which have a norm and an activation.
        norm_cfg: Of all but the values.
        act_cfg: Of all but the values.
    """

    def __init__(self, in_channels: int, channels: int, norm_cfg: dict, act_cfg: dict):
        super().__init__()
        options = {"norm_cfg": norm_cfg, "act_cfg": act_cfg}
        self.key_project = ConvModule(in_channels, channels, 1, **options)
        self.query_project = ConvModule(in_channels, channels, 1, **options)
        self.value_project = nn.Conv2d(in_channels, in_channels, 1)
        self.output_project = ConvModule(in_channels, in_channels, 1, **options)

    def forward(self, x: Tensor, group: tuple[int, int], interval: int) -> Tensor:
        """(B, C, H, W), of whole groups, to as much.

        Args:
            x: The map.
            group: Rows and columns of a group.
            interval: Distance between its pixels.
        """
        queries, keys, values = (
            to_groups(layer(x).permute(0, 2, 3, 1), group, interval)
            for layer in (self.query_project, self.key_project, self.value_project)
        )
        out = F.scaled_dot_product_attention(queries, keys, values)
        out = from_groups(out, x.shape[-2:], group, interval)
        return self.output_project(out.permute(0, 3, 1, 2))


class InterlacedFusion(nn.Module):
    """Interlaced sparse attention (arXiv 1907.12273): far pixels, then those of a cell.

    The map is cut into square cells, with zeros on all sides until they are whole. A pixel attends
    to those of its place in all cells, and then to those of its own cell.

    Args:
        in_channels: Of the joined levels.
        channels: Of the result.
        relation_channels: Of queries and keys.
        norm_cfg: Of all but the values.
        act_cfg: Of all but the values.
        cell: Rows of a cell, as many as columns.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        relation_channels: int,
        norm_cfg: dict,
        act_cfg: dict,
        cell: int = 8,
    ):
        super().__init__()
        options = {"norm_cfg": norm_cfg, "act_cfg": act_cfg}
        self.cell = cell
        self.in_conv = ConvModule(in_channels, channels, 1, **options)
        self.global_relation = Relation(channels, relation_channels, **options)
        self.local_relation = Relation(channels, relation_channels, **options)

    def forward(self, x: Tensor) -> Tensor:
        x = self.in_conv(x)
        height, width = x.shape[-2:]
        rows, columns = ((n + self.cell - 1) // self.cell for n in (height, width))
        more = rows * self.cell - height, columns * self.cell - width
        top, left = (n // 2 for n in more)
        x = F.pad(x, (left, more[1] - left, top, more[0] - top))
        # the pixels of one place of all cells are a group, then those of one cell
        x = self.global_relation(x, (rows, columns), self.cell)
        x = self.local_relation(x, (self.cell, self.cell), 1)
        return x[..., top : top + height, left : left + width]
