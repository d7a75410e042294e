"""Modules on maps of several strides at once: ``list[Tensor]``, (B, C, H_v, W_v) each."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.context import Context
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.drop_path import DropPath
from mmeffvit.layers.ffn import MixFFN
from mmeffvit.layers.mixers.deformable import DeformableAttention
from mmeffvit.layers.norm import LayerNorm2d

Maps = list[Tensor]

_norm = partial(LayerNorm2d, eps=1e-6)


class ConvBranch(nn.Module):
    """An image to maps of C channels: of stride 4 (None if not asked for), and of 8, 16 and 32."""

    def __init__(self, in_channels: int, width: int, dim: int, has_finest: bool):
        super().__init__()

        def conv(in_dim: int, out_dim: int, stride: int) -> nn.Sequential:
            layer = nn.Conv2d(in_dim, out_dim, 3, stride=stride, padding=1, bias=False)
            return nn.Sequential(layer, nn.BatchNorm2d(out_dim), nn.ReLU())

        self.stem = conv(in_channels, width, 2) + conv(width, width, 1) + conv(width, width, 1)
        self.stem.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.fc1 = nn.Conv2d(width, dim, 1) if has_finest else None
        self.conv2, self.fc2 = conv(width, 2 * width, 2), nn.Conv2d(2 * width, dim, 1)
        self.conv3, self.fc3 = conv(2 * width, 4 * width, 2), nn.Conv2d(4 * width, dim, 1)
        self.conv4, self.fc4 = conv(4 * width, 4 * width, 2), nn.Conv2d(4 * width, dim, 1)
        self.level_embed = nn.Parameter(torch.randn(3, dim))

    def forward(self, image: Tensor) -> tuple[Tensor | None, Maps]:
        x = self.stem(image)
        finest = self.fc1(x) if self.fc1 is not None else None
        maps = []
        steps = ((self.conv2, self.fc2), (self.conv3, self.fc3), (self.conv4, self.fc4))
        for (conv, fc), embed in zip(steps, self.level_embed):
            x = conv(x)
            maps.append(fc(x) + embed[:, None, None])
        return finest, maps


class MRFP(nn.Module):
    """Multi-receptive-field pyramid: depth-wise 3x3 and 5x5, half of the hidden channels each."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.dwconv = nn.ModuleDict(
            {str(i): DepthwiseConv2d(hidden_dim // 2, 3 if i % 2 else 5) for i in range(1, 7)}
        )
        self.bn = nn.ModuleDict({str(i): nn.BatchNorm2d(hidden_dim) for i in range(1, 4)})
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, maps: Maps) -> Maps:
        outs = []
        for i, x in enumerate(maps, 1):
            left, right = self.fc1(x).chunk(2, 1)
            x = torch.cat((self.dwconv[str(2 * i - 1)](left), self.dwconv[str(2 * i)](right)), 1)
            outs.append(self.fc2(F.gelu(F.gelu(self.bn[str(i)](x)))))  # two, as published
        return outs


class PyramidAttention(nn.Module):
    """Deformable attention among all levels, with a residual or without, then an FFN with one."""

    def __init__(self, dim: int, hidden_dim: int, drop_path: float, residual: bool, **attn: Any):
        super().__init__()
        self.query_norm, self.feat_norm, self.ffn_norm = _norm(dim), _norm(dim), _norm(dim)
        self.attn = DeformableAttention(dim, num_levels=3, **attn)
        self.ffn = MixFFN(dim, hidden_dim)
        self.drop_path = DropPath(drop_path)
        self.residual = residual

    def forward(self, queries: Maps, feats: Maps, context: Context) -> Maps:
        outs = self.attn(
            [self.query_norm(x) for x in queries], [self.feat_norm(x) for x in feats], context
        )
        if self.residual:
            outs = [x + out for x, out in zip(queries, outs)]
        return [x + self.drop_path(self.ffn(self.ffn_norm(x))) for x in outs]
